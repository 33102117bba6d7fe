"""The range of a setting, written once, in the annotation of its field.

    steps: Annotated[int, at_least(1)] = 10000

The checks, their messages and the comments of a recipe template are all made from it.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may have; all of them are finite.

    Args:
        low: least number, or the one that must be exceeded.
        high: greatest number, or the one that must not be reached.
        low_open: whether `low` itself is left out.
        high_open: whether `high` itself is left out.
    """

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def holds(self, number: float) -> bool:
        """Return whether the number is finite and within."""
        above = number > self.low if self.low_open else number >= self.low
        below = number < self.high if self.high_open else number <= self.high
        return math.isfinite(number) and above and below

    def describe(self) -> str:
        """Return the range in words that follow "it must be"."""
        if self.high < math.inf:
            opening = "(" if self.low_open else "["
            closing = ")" if self.high_open else "]"
            return f"in {opening}{self.low:g}, {self.high:g}{closing}"
        if self.low == -math.inf:
            return "a finite number"
        return f"greater than {self.low:g}" if self.low_open else f"at least {self.low:g}"


ANY_FINITE = Range()


def at_least(low: float) -> Range:
    """Return the range from `low` on."""
    return Range(low=low)


def greater_than(low: float) -> Range:
    """Return the range beyond `low`."""
    return Range(low=low, low_open=True)


def within(low: float, high: float, *, low_open: bool = False, high_open: bool = False) -> Range:
    """Return the range between two numbers, which belong to it unless they are said to be open."""
    return Range(low, high, low_open, high_open)


def ranges_of(section: Any) -> Mapping[str, Range]:
    """Return the range of each field of a dataclass that has one."""
    hints = typing.get_type_hints(section, include_extras=True)
    found = {}
    for field in dataclasses.fields(section):
        for note in getattr(hints[field.name], "__metadata__", ()):
            if isinstance(note, Range):
                found[field.name] = note
    return found


def explain(value: object, allowed: Range | None) -> str:
    """Return what a value must be and is not; nothing where it is right.

    Values that are no numbers, such as a choice of words beside them, are always right.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if not math.isfinite(value):
        return ANY_FINITE.describe()
    allowed = allowed or ANY_FINITE
    return "" if allowed.holds(value) else allowed.describe()
