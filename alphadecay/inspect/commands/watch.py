"""Follow a run under way: how it stands, alphas and decays by type of weight.

On a terminal the last refresh stands in place, with how it has moved; piped, a
line comes for each refresh. It ends with the run, or by Ctrl-C.

Example: alphadecay watch runs/llama-1b
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("run", type=Path, help="a run's folder, such as runs/quickstart")
    parser.add_argument("--once", action="store_true", help="show it as it is now, and end")
    parser.add_argument(
        "--every", type=_seconds, default=1.0, metavar="S", help="seconds between looks; default 1"
    )


def run(options: argparse.Namespace) -> int:
    """Watch the run; the exit status is 1 where it failed.

    Raises:
        InspectError: no such folder, or what lies there cannot be read.
    """
    from alphadecay.inspect.run.watch import watch_here

    return watch_here(options.run, options.every, options.once)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
