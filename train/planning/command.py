"""The command `python -m train dry-run --config RECIPE [--world-size N] [--section.key VALUE ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from train.config.command_line import load_command, split_dry_run
from train.errors import EXIT_USER_ERROR, as_command
from train.system.environment import prepare_environment

HELP = "Say what a run would be, on --world-size N ranks, and what would stop it. Runs nothing."


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code: 2 where something would stop the run."""
    return as_command(lambda: _dry_run(["--dry-run", *arguments]))


def _dry_run(arguments: list[str]) -> int:
    prepare_environment()
    rest, world_size = split_dry_run(arguments, 1)
    config = load_command(rest, "python -m train dry-run", HELP)
    from train.planning.dry_run import dry_run

    report, problems = dry_run(config, world_size)
    return print_dry_run(report, problems)


def print_dry_run(report: str, problems: Sequence[str]) -> int:
    """Print a dry run's report and problems; return the exit code."""
    print(report)
    found = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
    print(f"\n{found}" if problems else "\nNo problem found", flush=True)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr, flush=True)
    return EXIT_USER_ERROR if problems else 0
