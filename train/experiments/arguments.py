"""What every command about a grid takes: which of its runs, where they are, and after `--`
overrides of them all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from train.config.arguments import read_overrides
from train.errors import UserError
from train.experiments.grids.entries import FROM_THE_SWEEP


def add_choice(parser: argparse.ArgumentParser) -> None:
    """--only, --seeds and --root."""
    parser.add_argument(
        "--only",
        nargs="+",
        default=(),
        metavar="PATTERN",
        help="cells whose row, column or key matches, as '60M*'",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=whole(0), metavar="N", help="instead of the grid's own"
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("runs"),
        metavar="FOLDER",
        help="where the runs' folders are; default runs",
    )


def whole(least: int) -> Callable[[str], int]:
    """Reads an option that is a whole number from `least` on."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return read


def cut_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before `--`, and those after it."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:at]), list(arguments[at + 1 :])


def overrides_of(words: Sequence[str]) -> dict[str, str]:
    """`--section.key value ...` by key.

    Raises:
        UserError: no such key, two values for one, or one that each run has of its own.
    """
    files, settings = read_overrides(words)
    if files:
        raise UserError("--config cannot stand after --: a grid's cells name their recipes")
    found = {setting.key: setting.text for setting in settings.values()}
    for key in found:
        if key in FROM_THE_SWEEP:
            raise UserError(
                f"--{key} cannot stand after --: the sweep sets it for each run"
                + " (--seeds)" * (key == "run.seed")
            )
    return found
