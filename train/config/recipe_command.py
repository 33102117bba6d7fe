"""The command `python -m train recipe [--from RECIPE] > mine.yaml`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from train.config import TrainConfig
from train.config.command_line import load_config
from train.errors import as_command

HELP = """Print a recipe with every key: what it means, what it takes and its default. Sent to a
file, it is where a recipe of your own starts."""


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m train recipe", description=HELP)
    parser.add_argument(
        "--from",
        dest="recipe",
        metavar="RECIPE",
        help="start from a shipped recipe by its name, or from a file, instead of the defaults",
    )
    options = parser.parse_args(arguments)
    return as_command(lambda: _print(options.recipe))


def _print(recipe: str | None) -> None:
    # not above: --help should not wait for the parser of docstrings
    from train.config.recipe_template import recipe_template

    config = load_config(["--config", recipe]) if recipe else TrainConfig()
    print(recipe_template(config), end="")
