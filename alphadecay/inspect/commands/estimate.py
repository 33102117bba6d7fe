"""Fit a power law to the tail of a weight's spectrum, in float64."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "file", metavar="FILE.npy", help="a 2-D array of floats, as numpy.save writes"
    )
    parser.add_argument(
        "--tail",
        choices=("hill", "goodness_of_fit", "fix_finger"),
        default="hill",
        help="where the tail begins: at the median (the paper's), at the best fit, near the peak",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Print the estimate of one file.

    Raises:
        InspectError: the file holds no matrix that has an alpha.
    """
    from alphadecay.inspect.matrix_file import estimate_file

    matrix = estimate_file(Path(options.file), options.tail)
    print(json.dumps(matrix.as_dict()) if options.json else matrix.as_text())
    return 0
