"""Prints --help, of every key or of those that matter to one command."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from train.config import TrainConfig
from train.config.key_registry import range_of, sections

_USAGE = "%(prog)s --config RECIPE [--section.key VALUE ...]"
_EPILOG = (
    "--dry-run [--world-size N] [--device NAME] prints what the run would be, on N ranks that have "
    "a device such as h100-80gb or cpu-16gb each, and what would stop it; "
    "it runs nothing. --max-hours H is short for --run.max_hours H. `python -m train recipe` "
    "prints a recipe with every key, and `python -m train completion bash` a script that "
    "completes them."
)
_RECIPE = "a shipped recipe by name, such as quickstart, or the path of a YAML file."


def print_help(prog: str, description: str, shown: Sequence[str] = ()) -> None:
    """Print what a program does and its keys.

    Args:
        prog: name of the program.
        description: what it does.
        shown: sections and keys that matter to it; empty for all.
    """
    print(make_parser(prog, description, shown).format_help().rstrip())


def make_parser(prog: str, description: str = "", shown: Sequence[str] = ()) -> ArgumentParser:
    """Return a parser that knows how to describe the keys; what it parses is not checked."""
    epilog = "" if shown else _EPILOG
    parser = ArgumentParser(
        prog=prog, usage=_USAGE, description=description, epilog=epilog, exit_on_error=False
    )
    parser.add_argument("--config", metavar="RECIPE", help=_RECIPE)
    if shown:
        _add_some(parser, shown)
    else:
        parser.add_class_arguments(TrainConfig, None, as_group=True)
    for action in parser._actions:
        allowed = range_of(action.dest)
        if action.dest in sections():  # "--model FILE" would be a second way to say the same thing
            action.help = argparse.SUPPRESS
        elif allowed is not None:
            action.help = f"{action.help} [{allowed.describe()}]"
    return parser


def _add_some(parser: ArgumentParser, shown: Sequence[str]) -> None:
    """Add whole sections, and single keys of others."""
    kinds = typing.get_type_hints(TrainConfig)
    for name in sorted(sections(), key=list(kinds).index):
        keys = {key.rpartition(".")[2] for key in shown if key.startswith(f"{name}.")}
        if name in shown:
            parser.add_class_arguments(kinds[name], name, as_group=True)
        elif keys:
            others = set(typing.get_type_hints(kinds[name])) - keys
            parser.add_class_arguments(kinds[name], name, as_group=True, skip=others)
