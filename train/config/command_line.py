"""One YAML recipe plus dotted overrides -> TrainConfig, or a refusal that names every mistake."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from train.config import TrainConfig
from train.config.arguments import once, split_arguments
from train.config.help import print_help
from train.config.key_registry import (
    COMMAND_LINE,
    Setting,
    complaint,
    is_plain,
    sections,
)
from train.config.nested_lists import section
from train.config.recipe_file import read_recipe, recipe_names
from train.config.validate import check_values
from train.errors import Problems, UserError

DESCRIPTION = "Pre-train a language model with AlphaDecay."


def load_command(
    argv: Sequence[str] | None,
    prog: str = "train/pretrain.py",
    description: str = DESCRIPTION,
    shown: Sequence[str] = (),
) -> TrainConfig:
    """Read the command line of a program that takes a recipe; there must be one.

    `--help` prints `description` and the keys, and exits 0.

    Args:
        argv: the arguments; None reads sys.argv.
        prog: name of the program.
        description: what it does.
        shown: sections and keys that matter to it; empty for all.

    Raises:
        UserError: no recipe, or as `load_config`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(argument in ("-h", "--help") for argument in arguments):
        print_help(prog, description, shown)
        raise SystemExit(0)
    if not any(argument.partition("=")[0] == "--config" for argument in arguments):
        raise UserError(
            f"no recipe; add --config NAME with one of {', '.join(recipe_names())}, or the path "
            "of your own"
        )
    return load_config(arguments)


def load_config(arguments: Sequence[str], where: str = COMMAND_LINE) -> TrainConfig:
    """Read `--config FILE.yaml` and the overrides after it; the result is validated.

    An override wins over the file wherever it stands; two files, or two overrides, must not
    contradict each other. Without a file, defaults are what is overridden.

    Args:
        arguments: recipes and overrides.
        where: the place to point at when an override is wrong.

    Raises:
        UserError: unknown keys, values of the wrong type or out of range, or an unreadable file;
            all of them at once.
    """
    problems = Problems()
    files, overrides = split_arguments(arguments, problems, where)
    in_files = [setting for file in files for setting in read_recipe(file, problems)]
    settings = once(in_files, problems) | once(overrides, problems)
    config = _typed(settings, problems)
    places = {key: found.where for key, found in settings.items() if found.where != COMMAND_LINE}
    check_values(config, problems, places)
    problems.raise_any()
    return config


def dump_config(config: TrainConfig) -> str:
    """Return the resolved configuration as YAML that `--config` reads back to an equal one."""
    # JSON turns tuples into lists, which safe_dump knows how to write.
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


@cache  # a grid reads a hundred configurations
def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TrainConfig, None)
    return parser


def _typed(settings: Mapping[str, Setting], problems: Problems) -> TrainConfig:
    """Return the configuration; note settings whose text is no value of their type, and leave those
    at their defaults.
    """
    values = _parsed(settings.values())
    if values is None:
        wrong = [setting for setting in settings.values() if _parsed([setting]) is None]
        for setting in wrong:
            problems.add(complaint(setting), setting.key)
        values = _parsed(setting for setting in settings.values() if setting not in wrong) or {}
    kinds = typing.get_type_hints(TrainConfig)
    return TrainConfig(
        **{
            name: section(kinds[name], value) if name in sections() else value
            for name, value in values.items()
        }
    )


def _parsed(settings: Iterable[Setting]) -> dict[str, Any] | None:
    """Return the typed values of all keys, by section; None where a setting has another type."""
    wanted = list(settings)
    if not all(map(is_plain, wanted)):
        return None
    try:
        parsed = _parser().parse_args([f"--{setting.key}={setting.text}" for setting in wanted])
    except argparse.ArgumentError:
        return None
    values: dict[str, Any] = parsed.as_dict()
    return values
