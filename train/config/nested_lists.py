"""Reads values that are lists of entries with keys of their own, such as data.mixture."""

from __future__ import annotations

import dataclasses
import difflib
import json
import typing
from typing import Any

import yaml

from train.errors import UserError


def is_list(kind: Any) -> bool:
    """Return whether a key takes a list."""
    return typing.get_origin(kind) is tuple


def entry_kind(kind: Any) -> Any:
    """Return the dataclass whose entries a key lists; None for any other key."""
    inner = typing.get_args(kind)[0] if is_list(kind) else None
    return inner if dataclasses.is_dataclass(inner) else None


def describe(kind: Any) -> str:
    """Return such a list in words."""
    return "a list of {" + ", ".join(_keys(kind)) + "}"


def text_of(value: Any, kind: Any, key: str, where: str) -> str:
    """Return entries as JSON, every value a list where one is wanted.

    Args:
        value: what YAML made of it.
        kind: type of the key.
        key: name of the key, for messages.
        where: the place to point at.

    Raises:
        UserError: no list of mappings, or an entry with an unknown key or without one it needs.
    """
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise UserError(f"{key} must be {describe(kind)} {where}")
    keys = _keys(kind)
    for entry in value:
        _check(entry, kind, key, where)
        for name, own in entry.items():
            if is_list(keys[name]) and isinstance(own, str):
                entry[name] = [own]
    return json.dumps(value)


def text_of_arguments(values: list[str], kind: Any, key: str, where: str) -> str:
    """Return the same from the command line, where the list is written as YAML or JSON."""
    try:
        value = yaml.safe_load(" ".join(values))
    except yaml.YAMLError:
        value = None
    return text_of(value, kind, key, where)


def section(kind: Any, values: dict[str, Any]) -> Any:
    """Return a section's dataclass from its values, with entries as dataclasses too."""
    entries = {name: entry_kind(leaf) for name, leaf in typing.get_type_hints(kind).items()}
    return kind(
        **{
            name: _made(entries[name], value) if entries[name] else value
            for name, value in values.items()
        }
    )


def _made(kind: Any, values: Any) -> tuple[Any, ...]:
    lists = {name for name, leaf in typing.get_type_hints(kind).items() if is_list(leaf)}
    return tuple(
        kind(**{name: tuple(own) if name in lists else own for name, own in value.items()})
        for value in values
    )


def _keys(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(entry_kind(kind))


def _check(entry: dict[str, Any], kind: Any, key: str, where: str) -> None:
    keys = _keys(kind)
    for name in entry:
        if name not in keys:
            near = difflib.get_close_matches(str(name), keys, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(keys)}"
            raise UserError(f"unknown key {name!r} of an entry of {key} {where}; {hint}")
    for field in dataclasses.fields(entry_kind(kind)):
        if field.default is dataclasses.MISSING and field.name not in entry:
            raise UserError(
                f"an entry of {key} has no {field.name} {where}; each takes {', '.join(keys)}"
            )
