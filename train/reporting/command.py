"""The command `python -m train report`, which is the library's `alphadecay report`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from alphadecay.inspect.commands import report
from train.errors import as_command
from train.system.environment import prepare_environment


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; a user's mistake is one message, not a
    traceback.
    """
    parser = argparse.ArgumentParser(
        prog="python -m train report", description="Write a report of a run as one HTML file."
    )
    report.add_arguments(parser)
    options = parser.parse_args(argv)
    prepare_environment()
    return as_command(lambda: report.run(options))
