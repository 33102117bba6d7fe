"""The keys of TrainConfig: which there are, how a value of each may be written, and what is said of
a value of another type.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from train.config import TrainConfig, nested_lists
from train.config.nested_lists import entry_kind, is_list
from train.config.ranges import Range, ranges_of
from train.errors import UserError

YES_NO = {"yes": "true", "on": "true", "no": "false", "off": "false"}
COMMAND_LINE = "on the command line"
# Keys whose names are no names in Python -> what they are called there.
SPELLED_OUT = {"checkpoint.async": "checkpoint.asynchronous"}


@dataclass(frozen=True)
class Setting:
    """One key as it was written: its text, untyped as yet, and the place to point at when it is
    wrong.
    """

    key: str
    text: str
    where: str


@cache
def known_keys() -> dict[str, Any]:
    """Return every dotted key with its type, in the order of TrainConfig."""
    keys: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(TrainConfig).items():
        if dataclasses.is_dataclass(kind):
            keys.update(
                {
                    f"{name}.{leaf}": leaf_kind
                    for leaf, leaf_kind in typing.get_type_hints(kind).items()
                }
            )
        else:
            keys[name] = kind
    return keys


def is_plain(setting: Setting) -> bool:
    """Return whether a number is written as one; to YAML, which types values, 1:30 is 90."""
    kind = known_keys()[setting.key]
    choices = typing.get_args(kind)
    number = next((one for one in (int, float) if one is kind or one in choices), None)
    return number is None or setting.text in _words_of(kind) or _reads(number, setting.text)


def complaint(setting: Setting) -> str:
    """Return what is wrong with a value of the wrong type."""
    kind = known_keys()[setting.key]
    hint = ""
    near = difflib.get_close_matches(setting.text, _words_of(kind), n=1)
    if near and not is_list(kind):
        hint = f"; did you mean {near[0]}?"
    elif kind is int and _reads(float, setting.text) and float(setting.text).is_integer():
        hint = f"; did you mean {int(float(setting.text))}?"
    return f"{setting.key} must be {expected(kind)}, not {setting.text!r} {setting.where}{hint}"


def _words_of(kind: Any) -> list[str]:
    """Return the words that a choice is made from, those beside a number included."""
    if typing.get_origin(kind) is typing.Literal:
        return [str(choice) for choice in typing.get_args(kind)]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [word for part in typing.get_args(kind) for word in _words_of(part)]
    return []


def _reads(number: type[int] | type[float], text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True


def expected(kind: Any) -> str:
    """Return the type in words a person can act on."""
    if entry_kind(kind):
        return nested_lists.describe(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(expected(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is typing.Literal:
        return ("one of " if len(typing.get_args(kind)) > 1 else "") + ", ".join(
            str(choice) or '""' for choice in typing.get_args(kind)
        )
    if is_list(kind):
        return 'a list such as ["a.txt", "b.txt"], or a path'
    return {int: "an integer", float: "a number", bool: "true or false", str: "text"}[kind]


def as_text(values: list[str], kind: Any, where: str, key: str = "") -> str:
    """Return one spelling for what may be written in several.

    Lists become JSON, booleans true and false.
    """
    if entry_kind(kind):
        return nested_lists.text_of_arguments(values, kind, key, where)
    if is_list(kind):
        return json.dumps([item for value in values for item in _list_items(value)])
    return YES_NO.get(values[0].lower(), values[0]) if kind is bool else values[0]


def _list_items(text: str) -> list[str]:
    """Read `["a", "b"]`, `a,b` and `a` alike; `[ab]*.txt` is a glob."""
    if text.startswith("[") and text.endswith("]"):
        try:
            return [str(item) for item in yaml.safe_load(text)]
        except yaml.YAMLError as error:
            raise UserError(f"{text!r} is not a list; write {expected(tuple[str, ...])}") from error
    return [item.strip() for item in text.split(",") if item.strip()]


@cache
def sections() -> frozenset[str]:
    """Return the keys that hold keys."""
    return frozenset(
        name
        for name, kind in typing.get_type_hints(TrainConfig).items()
        if dataclasses.is_dataclass(kind)
    )


def range_of(key: str) -> Range | None:
    """Return the range of a dotted key; None where it has none or is no key."""
    section, _, leaf = key.rpartition(".")
    if section not in sections():
        return None
    return ranges_of(typing.get_type_hints(TrainConfig)[section]).get(leaf)
