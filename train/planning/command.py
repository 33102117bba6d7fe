"""The command `python -m train dry-run --config RECIPE`, with --world-size N, --device NAME and
--section.key VALUE.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from train.config.arguments import DryRunFlags, split_dry_run
from train.config.command_line import load_command
from train.errors import EXIT_USER_ERROR, as_command
from train.system.environment import prepare_environment

if TYPE_CHECKING:
    from train.planning.dry_run import DryRun

HELP = """Say whether a run would run on --world-size N ranks, each on --device NAME (h100-80gb,
a100-40gb, 24gb, cpu-16gb; this machine's without it), what would stop it, and what it would be:
sizes that are auto, memory, tokens, owners of the refresh, checkpoints. Runs nothing."""


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code: 2 where something would stop the run."""
    prepare_environment()
    return as_command(lambda: _command(arguments))


def _command(arguments: Sequence[str]) -> int:
    rest, flags = split_dry_run(["--dry-run", *arguments], 1)
    assert flags is not None  # --dry-run is among them
    return dry_run_command(rest, flags)


def dry_run_command(arguments: Sequence[str], flags: DryRunFlags) -> int:
    """Print what a run on so many ranks would be; return the exit code."""
    config = load_command(arguments, "python -m train dry-run", HELP)
    # not above: a misspelt key should not wait for torch
    from train.planning.device import named_device
    from train.planning.dry_run import dry_run

    device = named_device(flags.device) if flags.device else None
    return print_dry_run(dry_run(config, flags.ranks, device))


def print_dry_run(found: DryRun) -> int:
    """Print the answer, then the details, then the configuration; return the exit code."""
    print(found.answer, flush=True)
    for problem in found.problems:
        print(f"error: {problem}", file=sys.stderr, flush=True)
    print(*found.facts, sep="\n")
    for block in found.details:
        print("", *block, sep="\n")
    print("", "# The configuration", found.configuration, sep="\n", end="", flush=True)
    return EXIT_USER_ERROR if found.problems else 0
