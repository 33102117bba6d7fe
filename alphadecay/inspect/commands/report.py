"""Write a report of a run as one HTML file, for any browser and without a network.

Loss and perplexity, alpha and decay by layer and type and how they moved,
spectra with the fitted tail, where the time went, the configuration. A run may
be under way, stopped or finished; what it has not got is left out, with the
reason.

Example: alphadecay report runs/quickstart
"""

from __future__ import annotations

import argparse
from pathlib import Path

from alphadecay.inspect.run_folder import REPORT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("run", type=Path, help="a run's folder, such as runs/quickstart")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.html", help=f"default {REPORT} in the run's folder"
    )
    parser.add_argument(
        "--modules",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="weights whose spectra are drawn, e.g. '*.layers.0.*' '*q_proj.weight'; default: the "
        "smallest, median and largest alpha",
    )


def run(options: argparse.Namespace) -> int:
    """Write the report, and say where.

    Raises:
        InspectError: no run there, a pattern that matches nothing, or a file that cannot be
            written.
    """
    from alphadecay.inspect.html.write import write_report

    print(write_report(options.run, options.out, options.modules))
    return 0
