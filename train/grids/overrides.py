"""What a command about a grid is given after `--`: overrides of every run."""

from __future__ import annotations

from collections.abc import Sequence

from train.cli import once, split_arguments
from train.errors import UserError
from train.grids.description import FROM_THE_SWEEP


def cut_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before `--`, and those after it."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:at]), list(arguments[at + 1 :])


def overrides_of(words: Sequence[str]) -> dict[str, str]:
    """`--section.key value ...` by key.

    Raises:
        UserError: no such key, two values for one, or one that each run has of its own.
    """
    files, settings = split_arguments(list(words))
    if files:
        raise UserError("--config cannot stand after --: a grid's cells name their recipes")
    found = {setting.key: setting.text for setting in once(settings).values()}
    for key in found:
        if key in FROM_THE_SWEEP:
            raise UserError(f"--{key} cannot stand after --: the sweep sets it for each run" + " (--seeds)" * (key == "run.seed"))
    return found
