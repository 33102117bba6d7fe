"""A recipe's YAML file -> settings, with the line each stands on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from train.config import nested_lists
from train.config.key_registry import (
    SPELLED_OUT,
    Setting,
    as_text,
    expected,
    known_keys,
    sections,
)
from train.config.nested_lists import entry_kind, is_list
from train.config.unknown_keys import check_known, meant_section
from train.errors import Problems, UserError
from train.system.provenance import ROOT

RECIPES = ROOT / "train" / "recipes"
_NULL = "tag:yaml.org,2002:null"


def find_recipe(name: str) -> Path:
    """Return the file that `--config` names.

    A path wins; else it is a shipped recipe by its name, or a path in the project's folder.
    """
    path = Path(name).expanduser()
    shipped = (RECIPES / f"{name}.yaml", RECIPES / name, ROOT / path)
    return next((found for found in (path, *shipped) if found.is_file()), path)


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(recipe.stem for recipe in RECIPES.glob("*.yaml"))


def read_recipe(name: str, problems: Problems) -> list[Setting]:
    """Return the settings of a recipe in its order; note what is wrong with it.

    Args:
        name: a path, or the name of a shipped recipe.
        problems: takes notes of a file that cannot be read or is not YAML, of unknown keys, of
            keys without a fitting value and of those set twice, each with its line.
    """
    path = find_recipe(name)
    try:
        root = _compose(name, path)
    except UserError as error:
        # without it, nothing can be said of the other settings
        problems.add(str(error), *known_keys())
        return []
    settings: dict[str, Setting] = {}
    for setting in _walk(root, str(path), problems) if root is not None else ():
        first = settings.setdefault(setting.key, setting)
        if first is not setting:
            where = setting.where.removeprefix("in ")
            problems.add(
                f"{where}: {setting.key} is set twice; first {first.where}",
                setting.key,
            )
    return list(settings.values())


def yaml_problem(error: yaml.YAMLError) -> str:
    """Return what follows the file's name in a message: the line, and what is wrong there."""
    mark = getattr(error, "problem_mark", None)
    began = getattr(error, "context_mark", None)
    place = f", line {mark.line + 1}" if mark else ""
    # An unclosed bracket is noticed only where the file ends.
    origin = ""
    if began and mark and began.line != mark.line:
        origin = f", in what began on line {began.line + 1}"
    reason = getattr(error, "problem", None) or " ".join(str(error).split())
    tab = "; indent with spaces, YAML takes no tabs" if "'\\t'" in reason else ""
    return f"{place}: not valid YAML: {reason}{origin}{tab}"


def _compose(name: str, path: Path) -> yaml.Node | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(
            f"cannot read the recipe {name!r}: {reason}; {_near_recipes(name)}"
        ) from error
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path}{yaml_problem(error)}") from error
    return root


def _walk(node: yaml.Node, path: str, problems: Problems, prefix: str = "") -> Iterator[Setting]:
    """Flatten the YAML tree, keeping line numbers.

    Values stay text, so that the command line and the file are typed alike.
    """
    if not isinstance(node, yaml.MappingNode):
        section = prefix.rstrip(".")
        problems.add(
            f"{_place(node, path)}: {section or 'a recipe'} takes keys and values, as in "
            "`steps: 100`",
            *(key for key in known_keys() if key.startswith(prefix)),
        )
        return
    for key_node, value in node.value:
        key = prefix + str(key_node.value)
        key = SPELLED_OUT.get(key, key)
        where = f"in {_place(key_node, path)}"
        section = _section(key, value, where, problems)
        if section:
            # every key of the section may be commented out
            if value.tag != _NULL:
                yield from _walk(value, path, problems, f"{section}.")
        elif check_known(key, where, problems):
            try:
                yield Setting(key, _node_text(value, key, where), where)
            except UserError as error:
                problems.add(str(error), key)


def _section(key: str, value: yaml.Node, where: str, problems: Problems) -> str:
    """Return the section that a key is or was meant to be; empty where it is no section."""
    if key in sections():
        return key
    if not isinstance(value, yaml.MappingNode) or "." in key or key in known_keys():
        return ""
    meant = meant_section(key)
    if meant:
        problems.add(f"unknown section {key!r} {where}; did you mean {meant}?")
    return meant


def _node_text(node: yaml.Node, key: str, where: str) -> str:
    kind = known_keys()[key]
    place = where.removeprefix("in ")
    if entry_kind(kind):
        return nested_lists.text_of(yaml.safe_load(yaml.serialize(node)), kind, key, where)
    if isinstance(node, yaml.SequenceNode) and is_list(kind):
        if all(isinstance(item, yaml.ScalarNode) for item in node.value):
            return json.dumps([item.value for item in node.value])
    elif isinstance(node, yaml.ScalarNode):
        if node.tag == _NULL:
            raise UserError(
                f'{place}: {key} has no value; leave the key out for its default, or write "" for '
                "empty text"
            )
        return as_text([node.value], kind, where)
    raise UserError(f"{place}: {key} must be {expected(kind)}")


def _place(node: yaml.Node, path: str) -> str:
    return f"{path}, line {node.start_mark.line + 1}"


def _near_recipes(name: str) -> str:
    names = recipe_names()
    near = difflib.get_close_matches(Path(name).stem, names, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"recipes by name are {', '.join(names)}"
