"""What is wrong with a value of a configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wrong:
    """A value that cannot stay; the message is "KEY is VALUE", its place, and the fault.

    Args:
        key: the setting to change.
        value: its value as a person reads it.
        fault: the rest of the sentence, with the way out.
        others: settings that the value disagrees with.
    """

    key: str
    value: str
    fault: str
    others: tuple[str, ...] = ()


def must_be(key: str, value: object, wanted: str, *others: str) -> Wrong:
    """Return that a value is not what it must be."""
    return Wrong(key, repr(value), f"; it must be {wanted}", others)
