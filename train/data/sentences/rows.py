"""Turns a row of a table into one or two sentences and a label, or says why it cannot be used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from train.errors import UserError

_SHOWN = 40  # characters of a value in a reason


class RawRow(NamedTuple):
    """A row as it was read.

    Args:
        file: where it stands.
        line: there, 1-based.
        values: by column; or, as a text, why it cannot be read.
    """

    file: str
    line: int
    values: Mapping[str, Any] | str


class Example(NamedTuple):
    """A row that can be used.

    Args:
        texts: one sentence, or two.
        label: number of a class, or the value of a regression.
    """

    texts: tuple[str, ...]
    label: float


@dataclass(frozen=True)
class Columns:
    """What the columns of a table mean.

    Args:
        text: one column or two.
        label: its column.
        label_names: the classes in the order of their numbers; empty in a regression.
        regression: the label is a number that is predicted.
    """

    text: tuple[str, ...]
    label: str
    label_names: tuple[str, ...]
    regression: bool

    def check_there(self, there: Mapping[str, Any], place: str) -> None:
        """Refuse a table that lacks one of the columns.

        Raises:
            UserError: names the key to change, and the columns that there are.
        """
        for key, names in (("sentences.text", self.text), ("sentences.label", (self.label,))):
            for name in names:
                if name not in there:
                    columns = ", ".join(map(str, there)) or "none"
                    raise UserError(
                        f"{key} names the column {name!r}, and {place} has the columns {columns}; "
                        f"set --{key} to those that you mean"
                    )

    def example(self, values: Mapping[str, Any]) -> Example:
        """Return the sentences and the label of a row.

        Raises:
            ValueError: it cannot be used; the message is the reason.
        """
        texts = tuple(self._text(values, name) for name in self.text)
        if self.label not in values:
            raise ValueError(f"no column {self.label}")
        label = values[self.label]
        return Example(texts, self._value(label) if self.regression else self._class(label))

    def _text(self, values: Mapping[str, Any], name: str) -> str:
        text = values.get(name)
        if not isinstance(text, str):
            missing = name not in values
            raise ValueError(f"no column {name}" if missing else f"{name} is no text")
        if not text.strip():
            raise ValueError(f"{name} is empty")
        return text

    def _value(self, label: Any) -> float:
        try:
            value = float(label)
        except (TypeError, ValueError):
            raise ValueError(f"{self.label} {_shown(label)} is no number") from None
        if not math.isfinite(value):
            raise ValueError(f"{self.label} {_shown(label)} is not finite")
        return value

    def _class(self, label: Any) -> int:
        names = self.label_names
        if isinstance(label, str) and label in names:
            return names.index(label)
        number = _whole(label)
        if number is None:
            raise ValueError(f"{self.label} {_shown(label)} is none of {', '.join(names)}")
        if not 0 <= number < len(names):
            raise ValueError(f"{self.label} {number} is out of range: 0 to {len(names) - 1}")
        return number


def _whole(label: Any) -> int | None:
    """Return a whole number, also where it is spelled out; None for anything else."""
    if isinstance(label, bool) or label is None:
        return None
    try:
        number = float(label)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
