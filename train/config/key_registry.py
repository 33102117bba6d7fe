"""The keys of TrainConfig: which there are, how a value of each may be written, and what is said of
one that does not fit.
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
from train.errors import UserError

YES_NO = {"yes": "true", "on": "true", "no": "false", "off": "false"}
COMMAND_LINE = "on the command line"


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
    """Every dotted key with its type, in the order of TrainConfig."""
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


def complaint(setting: Setting) -> str:
    """What is wrong with a value of the wrong type."""
    kind = known_keys()[setting.key]
    near = difflib.get_close_matches(
        setting.text, [str(choice) for choice in typing.get_args(kind)], n=1
    )
    hint = f"; did you mean {near[0]}?" if near and not is_list(kind) else ""
    return f"{setting.key} must be {expected(kind)}, not {setting.text!r} {setting.where}{hint}"


def expected(kind: Any) -> str:
    """The type in words a person can act on."""
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


def as_text(values: list[str], kind: Any, key: str = "") -> str:
    """One spelling for what may be written in several: lists as JSON, booleans as true and false."""
    if entry_kind(kind):
        return nested_lists.text_of_arguments(values, kind, key, COMMAND_LINE)
    if is_list(kind):
        return json.dumps([item for value in values for item in _list_items(value)])
    return YES_NO.get(values[0].lower(), values[0]) if kind is bool else values[0]


def _list_items(text: str) -> list[str]:
    """`["a", "b"]`, `a,b` and `a` alike; `[ab]*.txt` is a glob."""
    if text.startswith("[") and text.endswith("]"):
        try:
            return [str(item) for item in yaml.safe_load(text)]
        except yaml.YAMLError as error:
            raise UserError(f"{text!r} is not a list; write {expected(tuple[str, ...])}") from error
    return [item.strip() for item in text.split(",") if item.strip()]


@cache
def sections() -> frozenset[str]:
    """The keys that hold keys."""
    return frozenset(
        name
        for name, kind in typing.get_type_hints(TrainConfig).items()
        if dataclasses.is_dataclass(kind)
    )


def check_known(key: str, where: str) -> None:
    """Refuse an unknown key with the nearest right one: by the whole name, else by its last part."""
    known = list(known_keys())
    if key in known:
        return
    if key in sections():
        raise UserError(
            f"{key} {where} is a section; set one of its keys: "
            f"{', '.join(k for k in known if k.startswith(key + '.'))}"
        )
    near = difflib.get_close_matches(key.replace("-", "_"), known, n=1)
    leaves = {name.rpartition(".")[2]: name for name in known}
    leaf = difflib.get_close_matches(key.replace("-", "_").rpartition(".")[2], leaves, n=1)
    same_leaf = [name for name in known if leaf and name.rpartition(".")[2] == leaf[0]]
    guess = near or same_leaf
    hint = f"did you mean {' or '.join(guess)}?" if guess else "--help lists every key"
    raise UserError(f"unknown key {key!r} {where}; {hint}")
