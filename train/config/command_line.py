"""One YAML recipe plus dotted overrides -> TrainConfig, and a clear refusal of whatever does not
fit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import typing
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from train.config import TrainConfig
from train.config.key_registry import (
    COMMAND_LINE,
    Setting,
    as_text,
    check_known,
    complaint,
    known_keys,
    sections,
)
from train.config.nested_lists import is_list, section
from train.config.recipe_file import RECIPES, read_recipe
from train.config.validate import accumulation_steps, validate
from train.errors import UserError

__all__ = [
    "RECIPES",
    "accumulation_steps",
    "dump_config",
    "known_keys",
    "load_config",
    "split_dry_run",
    "validate",
]

SHORT = {"max-hours": "run.max_hours"}  # what one gives to a job rather than to a recipe
DESCRIPTION = "Pre-train a LLaMA with AlphaDecay."


def load_config(
    argv: Sequence[str] | None = None,
    prog: str = "train/pretrain.py",
    description: str = DESCRIPTION,
) -> TrainConfig:
    """Read `--config FILE.yaml` and the overrides after it; None reads sys.argv.

    The result is validated.

    An override wins over the file wherever it stands; two files, or two overrides, must not
    contradict each other. `--help` prints `description` and every key, and exits 0.

    Raises:
        UserError: an unknown key, a value of the wrong type or out of range, or an unreadable file.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(argument in ("-h", "--help") for argument in arguments):
        _parser(prog, description).print_help()
        raise SystemExit(0)
    files, overrides = split_arguments(arguments)
    settings = once([setting for file in files for setting in read_recipe(file)])
    settings.update(once(overrides))
    config = _typed(settings, _parser(prog))
    validate(config)
    return config


def split_dry_run(arguments: Sequence[str], world_size: int) -> tuple[list[str], int]:
    """The other arguments, and the ranks of the dry run that `--dry-run [--world-size N]` asks for;
    0 without it.

    Args:
        world_size: ranks of this launch, which N defaults to.

    Raises:
        UserError: --world-size without --dry-run, or no number of ranks.
    """
    rest = [argument for argument in arguments if argument != "--dry-run"]
    asked = len(rest) < len(arguments)
    ranks = str(world_size)
    for at, argument in enumerate(rest):
        key, equals, text = argument.partition("=")
        if key == "--world-size":
            if not asked:
                raise UserError(
                    "--world-size goes with --dry-run; a run has the ranks that its launcher starts"
                )
            ranks = text if equals else "".join(rest[at + 1 : at + 2])
            rest = rest[:at] + rest[at + (1 if equals else 2) :]
            break
    if not ranks.isdecimal() or int(ranks) < 1:
        raise UserError(f"--world-size takes a number of ranks, not {ranks!r}")
    return rest, int(ranks) if asked else 0


def dump_config(config: TrainConfig) -> str:
    """The resolved configuration as YAML that `--config` reads back to an equal one."""
    # JSON turns tuples into lists, which safe_dump knows how to write.
    return yaml.safe_dump(
        json.loads(json.dumps(dataclasses.asdict(config))), sort_keys=False, allow_unicode=True
    )


@cache  # a grid reads a hundred configurations
def _parser(prog: str, description: str = DESCRIPTION) -> ArgumentParser:
    usage = "%(prog)s --config FILE.yaml [--section.key VALUE ...]"
    parser = ArgumentParser(prog=prog, usage=usage, description=description, exit_on_error=False)
    parser.epilog = (
        "--dry-run [--world-size N] prints what the run would be, on N ranks, and what would stop "
        "it; it runs nothing. "
        "--max-hours H is short for --run.max_hours H."
    )
    parser.add_argument(
        "--config",
        metavar="FILE.yaml",
        help="recipe to start from, e.g. train/recipes/quickstart.yaml.",
    )
    parser.add_class_arguments(TrainConfig, None, as_group=True)
    for action in parser._actions:
        if action.dest in sections():  # "--model FILE" would be a second way to say the same thing
            action.help = argparse.SUPPRESS
    return parser


def split_arguments(arguments: list[str]) -> tuple[list[str], list[Setting]]:
    """The recipe files, and the overrides in order; the launcher's --local_rank is dropped."""
    kinds = known_keys()
    files = []
    overrides = []
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        if not argument.startswith("--"):
            raise UserError(
                f"unexpected {argument!r} {COMMAND_LINE}: write --section.key VALUE, or --config "
                "FILE.yaml"
            )
        key, equals, text = argument[2:].partition("=")
        key = SHORT.get(key, key)
        rank = key.replace("-", "_") == "local_rank"
        recipe = key == "config"
        if not (rank or recipe):
            check_known(key, COMMAND_LINE)
        values = [text] if equals else _take_values(queue, key, kinds.get(key))
        if recipe:
            files.append(values[0])
        elif not rank:
            overrides.append(Setting(key, as_text(values, kinds[key], key), COMMAND_LINE))
    return files, overrides


def _take_values(queue: list[str], key: str, kind: Any) -> list[str]:
    """The values that follow `--key`: one, or for a list as many as there are, since the shell
    expands globs.
    """
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
            raise UserError(
                f"{setting.key} has two values: {first.text!r} {first.where}, {setting.text!r} "
                f"{setting.where}; give it once"
            )
    return seen


def _typed(settings: dict[str, Setting], parser: ArgumentParser) -> TrainConfig:
    try:
        parsed = parser.parse_args(
            [f"--{setting.key}={setting.text}" for setting in settings.values()]
        )
    except argparse.ArgumentError as error:
        found = re.search(r'Parser key "([\w.]+)"', str(error))
        if not found or found[1] not in settings:
            raise UserError(" ".join(str(error).split())) from error
        raise UserError(complaint(settings[found[1]])) from error
    values = parsed.as_dict()
    kinds = typing.get_type_hints(TrainConfig)
    return TrainConfig(
        **{
            name: section(kinds[name], values[name]) if name in sections() else values[name]
            for name in kinds
        }
    )
