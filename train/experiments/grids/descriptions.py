"""Reads the YAML that describes grids, and checks the form of its values.

What the values mean is told, and worked out, in grid_yaml.py.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from train.config.recipe_file import yaml_problem
from train.errors import UserError

FILE_KEYS = ("grids", "parts")

Description = Mapping[str, Any]


def read_descriptions(path: Path) -> dict[str, Description]:
    """Return the grids that a file describes, by name, not yet looked into.

    Raises:
        UserError: it cannot be read, or is no description.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"cannot read the grid {path}: {reason}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}{yaml_problem(error)}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: a grid takes keys and values, such as title, columns and rows; see "
            "train/experiments/grids/grid_yaml.py"
        )
    if "grids" not in content:
        single = {key: value for key, value in content.items() if key != "parts"}
        return {as_text(content.get("name", path.stem), f"{path}: name"): single}
    check_keys(content, FILE_KEYS, str(path))
    grids = as_mapping(content["grids"], f"{path}: grids")
    return {name: as_mapping(grid, f"{path}: {name}") for name, grid in grids.items()}


def as_mapping(value: Any, where: str) -> dict[str, Any]:
    """Return keys and values.

    Raises:
        UserError: it is something else.
    """
    if value == "":  # a key whose values are all commented out
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where} takes keys and values, not {json.dumps(value)}")
    return value


def as_text(value: Any, where: str) -> str:
    """Return a text, its white space squeezed.

    Raises:
        UserError: it is keys and values, or a list.
    """
    if not isinstance(value, str):
        raise UserError(f"{where} takes a text, not {json.dumps(value)}")
    return " ".join(value.split())


def as_number(text: Any, where: str) -> float:
    """Return a figure.

    Raises:
        UserError: the text is no number.
    """
    try:
        return float(text)
    except (TypeError, ValueError):
        raise UserError(f"{where}: {text!r} is no number; write ~ where there is none") from None


def check_keys(given: Iterable[str], keys: Iterable[str], where: str) -> None:
    """Check that every key given is one of `keys`.

    Raises:
        UserError: one is not; the message names the nearest.
    """
    for key in given:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(keys)}"
            raise UserError(f"{where}: unknown key {key!r}; {hint}")


class _Loader(yaml.BaseLoader):
    """Keeps every scalar the text it was written as, so that 1e-5 is a label, too.

    A key that stands twice is refused.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            text = str(key.value)
            if text in seen:
                problem = f"{text!r} stands here and on line {seen[text]}; take one out"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen[text] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)
