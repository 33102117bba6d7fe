"""One YAML recipe plus dotted overrides -> TrainConfig, and a clear refusal of whatever does not fit."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from train import entries
from train.config import TrainConfig
from train.entries import entry_kind, is_list, section
from train.errors import UserError
from train.validation import accumulation_steps, validate

__all__ = ["accumulation_steps", "dump_config", "known_keys", "load_config", "split_dry_run", "validate"]

RECIPES = Path(__file__).resolve().parent / "recipes"
YES_NO = {"yes": "true", "on": "true", "no": "false", "off": "false"}
COMMAND_LINE = "on the command line"
DESCRIPTION = "Pre-train a LLaMA with AlphaDecay."


@dataclass(frozen=True)
class Setting:
    """One key as it was written: its text, untyped as yet, and the place to point at when it is wrong."""

    key: str
    text: str
    where: str


def load_config(argv: Sequence[str] | None = None, prog: str = "train/pretrain.py", description: str = DESCRIPTION) -> TrainConfig:
    """Read `--config FILE.yaml` and the overrides after it; None reads sys.argv. The result is validated.

    An override wins over the file wherever it stands; two files, or two overrides, must not contradict each other.
    `--help` prints `description` and every key, and exits 0.

    Raises:
        UserError: an unknown key, a value of the wrong type or out of range, or an unreadable file.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(argument in ("-h", "--help") for argument in arguments):
        _parser(prog, description).print_help()
        raise SystemExit(0)
    files, overrides = split_arguments(arguments)
    settings = once([setting for file in files for setting in _read_recipe(file)])
    settings.update(once(overrides))
    config = _typed(settings, _parser(prog))
    validate(config)
    return config


def split_dry_run(arguments: Sequence[str], world_size: int) -> tuple[list[str], int]:
    """The other arguments, and the ranks of the dry run that `--dry-run [--world-size N]` asks for; 0 without it.

    Args:
        world_size: ranks of this launch, which N defaults to.

    Raises:
        UserError: --world-size without --dry-run, or no number of ranks.
    """
    rest = [argument for argument in arguments if argument != "--dry-run"]
    asked, ranks = len(rest) < len(arguments), str(world_size)
    for at, argument in enumerate(rest):
        key, equals, text = argument.partition("=")
        if key == "--world-size":
            if not asked:
                raise UserError("--world-size goes with --dry-run; a run has the ranks that its launcher starts")
            ranks = text if equals else "".join(rest[at + 1 : at + 2])
            rest = rest[:at] + rest[at + (1 if equals else 2) :]
            break
    if not ranks.isdecimal() or int(ranks) < 1:
        raise UserError(f"--world-size takes a number of ranks, not {ranks!r}")
    return rest, int(ranks) if asked else 0


def dump_config(config: TrainConfig) -> str:
    """The resolved configuration as YAML that `--config` reads back to an equal one."""
    # JSON turns tuples into lists, which safe_dump knows how to write.
    return yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(config))), sort_keys=False, allow_unicode=True)


@cache
def known_keys() -> dict[str, Any]:
    """Every dotted key with its type, in the order of TrainConfig."""
    keys: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(TrainConfig).items():
        if dataclasses.is_dataclass(kind):
            keys.update({f"{name}.{leaf}": leaf_kind for leaf, leaf_kind in typing.get_type_hints(kind).items()})
        else:
            keys[name] = kind
    return keys


# --- the command line -------------------------------------------------------------------------------------------------


@cache  # a grid reads a hundred configurations
def _parser(prog: str, description: str = DESCRIPTION) -> ArgumentParser:
    usage = "%(prog)s --config FILE.yaml [--section.key VALUE ...]"
    parser = ArgumentParser(prog=prog, usage=usage, description=description, exit_on_error=False)
    parser.epilog = "--dry-run [--world-size N] prints what the run would be, on N ranks, and what would stop it; it runs nothing."
    parser.add_argument("--config", metavar="FILE.yaml", help="recipe to start from, e.g. train/recipes/quickstart.yaml.")
    parser.add_class_arguments(TrainConfig, None, as_group=True)
    for action in parser._actions:
        if action.dest in _sections():  # "--model FILE" would be a second way to say the same thing
            action.help = argparse.SUPPRESS
    return parser


def split_arguments(arguments: list[str]) -> tuple[list[str], list[Setting]]:
    """The recipe files, and the overrides in order; the launcher's --local_rank is dropped."""
    kinds, files, overrides = known_keys(), [], []
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        if not argument.startswith("--"):
            raise UserError(f"unexpected {argument!r} {COMMAND_LINE}: write --section.key VALUE, or --config FILE.yaml")
        key, equals, text = argument[2:].partition("=")
        rank, recipe = key.replace("-", "_") == "local_rank", key == "config"
        if not (rank or recipe):
            _check_known(key, COMMAND_LINE)
        values = [text] if equals else _take_values(queue, key, kinds.get(key))
        if recipe:
            files.append(values[0])
        elif not rank:
            overrides.append(Setting(key, _as_text(values, kinds[key], key), COMMAND_LINE))
    return files, overrides


def _take_values(queue: list[str], key: str, kind: Any) -> list[str]:
    """The values that follow `--key`: one, or for a list as many as there are, since the shell expands globs."""
    values: list[str] = []
    while queue and not queue[0].startswith("--") and (not values or is_list(kind)):
        values.append(queue.pop(0))
    if not values and kind is bool:
        return ["true"]
    if not values:
        raise UserError(f"--{key} has no value {COMMAND_LINE}")
    return values


def once(settings: Iterable[Setting]) -> dict[str, Setting]:
    """By key; two values for one key are a mistake, even if the later one would win elsewhere."""
    seen: dict[str, Setting] = {}
    for setting in settings:
        first = seen.setdefault(setting.key, setting)
        if first.text != setting.text:
            raise UserError(f"{setting.key} has two values: {first.text!r} {first.where}, {setting.text!r} {setting.where}; give it once")
    return seen


# --- the recipe -------------------------------------------------------------------------------------------------------


def _read_recipe(path: str) -> list[Setting]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"cannot read the recipe {path!r}: {reason}; {_near_recipes(path)}") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path}{_yaml_problem(error)}") from error
    settings = list(_walk(root, path)) if root is not None else []
    seen: dict[str, Setting] = {}
    for setting in settings:
        if setting.key in seen:
            raise UserError(f"{setting.where}: {setting.key} is set twice; first in {seen[setting.key].where}")
        seen[setting.key] = setting
    return settings


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark, began = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    place = f", line {mark.line + 1}" if mark else ""
    # An unclosed bracket is noticed only where the file ends.
    origin = f", in what began on line {began.line + 1}" if began and mark and began.line != mark.line else ""
    return f"{place}: not valid YAML: {getattr(error, 'problem', None) or ' '.join(str(error).split())}{origin}"


def _walk(node: yaml.Node, path: str, prefix: str = "") -> Iterator[Setting]:
    """Flatten the YAML tree, keeping line numbers; values stay text, so the command line and the file are typed alike."""
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{_place(node, path)}: {prefix.rstrip('.') or 'a recipe'} takes keys and values, as in `steps: 100`")
    kinds, sections = known_keys(), _sections()
    for key_node, value in node.value:
        key = prefix + str(key_node.value)
        where = _place(key_node, path)
        if key in sections:
            if value.tag != "tag:yaml.org,2002:null":  # every key of the section may be commented out
                yield from _walk(value, path, f"{key}.")
            continue
        _check_known(key, f"in {where}")
        yield Setting(key, _node_text(value, kinds[key], key, where), f"in {where}")


def _node_text(node: yaml.Node, kind: Any, key: str, where: str) -> str:
    if entry_kind(kind):
        return entries.text_of(yaml.safe_load(yaml.serialize(node)), kind, key, f"in {where}")
    if isinstance(node, yaml.SequenceNode) and is_list(kind):
        if all(isinstance(item, yaml.ScalarNode) for item in node.value):
            return json.dumps([item.value for item in node.value])
    elif isinstance(node, yaml.ScalarNode):
        if node.tag == "tag:yaml.org,2002:null":
            raise UserError(f'{where}: {key} has no value; leave the key out for its default, or write "" for empty text')
        return _as_text([node.value], kind)
    raise UserError(f"{where}: {key} must be {_expected(kind)}")


def _place(node: yaml.Node, path: str) -> str:
    return f"{path}, line {node.start_mark.line + 1}"


def _near_recipes(path: str) -> str:
    names = sorted(recipe.stem for recipe in RECIPES.glob("*.yaml"))
    near = difflib.get_close_matches(Path(path).stem, names, n=1)
    return f"did you mean train/recipes/{near[0]}.yaml?" if near else f"train/recipes has {', '.join(names)}"


# --- values and their types -------------------------------------------------------------------------------------------


def _typed(settings: dict[str, Setting], parser: ArgumentParser) -> TrainConfig:
    try:
        parsed = parser.parse_args([f"--{setting.key}={setting.text}" for setting in settings.values()])
    except argparse.ArgumentError as error:
        found = re.search(r'Parser key "([\w.]+)"', str(error))
        if not found or found[1] not in settings:
            raise UserError(" ".join(str(error).split())) from error
        raise UserError(_complaint(settings[found[1]])) from error
    values = parsed.as_dict()
    kinds = typing.get_type_hints(TrainConfig)
    return TrainConfig(**{name: section(kinds[name], values[name]) if name in _sections() else values[name] for name in kinds})


def _complaint(setting: Setting) -> str:
    kind = known_keys()[setting.key]
    near = difflib.get_close_matches(setting.text, [str(choice) for choice in typing.get_args(kind)], n=1)
    hint = f"; did you mean {near[0]}?" if near and not is_list(kind) else ""
    return f"{setting.key} must be {_expected(kind)}, not {setting.text!r} {setting.where}{hint}"


def _expected(kind: Any) -> str:
    """The type in words a person can act on."""
    if entry_kind(kind):
        return entries.describe(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(_expected(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is typing.Literal:
        return ("one of " if len(typing.get_args(kind)) > 1 else "") + ", ".join(str(choice) or '""' for choice in typing.get_args(kind))
    if is_list(kind):
        return 'a list such as ["a.txt", "b.txt"], or a path'
    return {int: "an integer", float: "a number", bool: "true or false", str: "text"}[kind]


def _as_text(values: list[str], kind: Any, key: str = "") -> str:
    """One spelling for what may be written in several: lists as JSON, booleans as true and false."""
    if entry_kind(kind):
        return entries.text_of_arguments(values, kind, key, COMMAND_LINE)
    if is_list(kind):
        return json.dumps([item for value in values for item in _list_items(value)])
    return YES_NO.get(values[0].lower(), values[0]) if kind is bool else values[0]


def _list_items(text: str) -> list[str]:
    """`["a", "b"]`, `a,b` and `a` alike; `[ab]*.txt` is a glob."""
    if text.startswith("[") and text.endswith("]"):
        try:
            return [str(item) for item in yaml.safe_load(text)]
        except yaml.YAMLError as error:
            raise UserError(f"{text!r} is not a list; write {_expected(tuple[str, ...])}") from error
    return [item.strip() for item in text.split(",") if item.strip()]


@cache
def _sections() -> frozenset[str]:
    return frozenset(name for name, kind in typing.get_type_hints(TrainConfig).items() if dataclasses.is_dataclass(kind))


def _check_known(key: str, where: str) -> None:
    """Refuse an unknown key with the nearest right one: by the whole name, else by its last part."""
    known = list(known_keys())
    if key in known:
        return
    if key in _sections():
        raise UserError(f"{key} {where} is a section; set one of its keys: {', '.join(k for k in known if k.startswith(key + '.'))}")
    near = difflib.get_close_matches(key.replace("-", "_"), known, n=1)
    leaves = {name.rpartition(".")[2]: name for name in known}
    leaf = difflib.get_close_matches(key.replace("-", "_").rpartition(".")[2], leaves, n=1)
    same_leaf = [name for name in known if leaf and name.rpartition(".")[2] == leaf[0]]
    guess = near or same_leaf
    hint = f"did you mean {' or '.join(guess)}?" if guess else "--help lists every key"
    raise UserError(f"unknown key {key!r} {where}; {hint}")
