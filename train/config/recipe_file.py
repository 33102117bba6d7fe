"""A recipe's YAML file -> settings, with the line each stands on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from train.config import nested_lists
from train.config.key_registry import Setting, as_text, check_known, expected, known_keys, sections
from train.config.nested_lists import entry_kind, is_list
from train.errors import UserError
from train.system.provenance import ROOT

RECIPES = ROOT / "train" / "recipes"


def read_recipe(path: str) -> list[Setting]:
    """Every setting of the file, in its order.

    Raises:
        UserError: it cannot be read, is not YAML, or has an unknown key or one twice; the message
            names the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(
            f"cannot read the recipe {path!r}: {reason}; {_near_recipes(path)}"
        ) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path}{yaml_problem(error)}") from error
    settings = list(_walk(root, path)) if root is not None else []
    seen: dict[str, Setting] = {}
    for setting in settings:
        if setting.key in seen:
            raise UserError(
                f"{setting.where}: {setting.key} is set twice; first in {seen[setting.key].where}"
            )
        seen[setting.key] = setting
    return settings


def yaml_problem(error: yaml.YAMLError) -> str:
    """What follows the file's name in a message: the line, and what is wrong there."""
    mark = getattr(error, "problem_mark", None)
    began = getattr(error, "context_mark", None)
    place = f", line {mark.line + 1}" if mark else ""
    # An unclosed bracket is noticed only where the file ends.
    origin = (
        f", in what began on line {began.line + 1}"
        if began and mark and began.line != mark.line
        else ""
    )
    return f"{place}: not valid YAML: {getattr(error, 'problem', None) or ' '.join(str(error).split())}{origin}"


def _walk(node: yaml.Node, path: str, prefix: str = "") -> Iterator[Setting]:
    """Flatten the YAML tree, keeping line numbers; values stay text, so the command line and the
    file are typed alike.
    """
    if not isinstance(node, yaml.MappingNode):
        raise UserError(
            f"{_place(node, path)}: {prefix.rstrip('.') or 'a recipe'} takes keys and values, as "
            "in `steps: 100`"
        )
    kinds = known_keys()
    groups = sections()
    for key_node, value in node.value:
        key = prefix + str(key_node.value)
        where = _place(key_node, path)
        if key in groups:
            # every key of the section may be commented out
            if value.tag != "tag:yaml.org,2002:null":
                yield from _walk(value, path, f"{key}.")
            continue
        check_known(key, f"in {where}")
        yield Setting(key, _node_text(value, kinds[key], key, where), f"in {where}")


def _node_text(node: yaml.Node, kind: Any, key: str, where: str) -> str:
    if entry_kind(kind):
        return nested_lists.text_of(yaml.safe_load(yaml.serialize(node)), kind, key, f"in {where}")
    if isinstance(node, yaml.SequenceNode) and is_list(kind):
        if all(isinstance(item, yaml.ScalarNode) for item in node.value):
            return json.dumps([item.value for item in node.value])
    elif isinstance(node, yaml.ScalarNode):
        if node.tag == "tag:yaml.org,2002:null":
            raise UserError(
                f'{where}: {key} has no value; leave the key out for its default, or write "" for '
                "empty text"
            )
        return as_text([node.value], kind)
    raise UserError(f"{where}: {key} must be {expected(kind)}")


def _place(node: yaml.Node, path: str) -> str:
    return f"{path}, line {node.start_mark.line + 1}"


def _near_recipes(path: str) -> str:
    names = sorted(recipe.stem for recipe in RECIPES.glob("*.yaml"))
    near = difflib.get_close_matches(Path(path).stem, names, n=1)
    return (
        f"did you mean train/recipes/{near[0]}.yaml?"
        if near
        else f"train/recipes has {', '.join(names)}"
    )
