"""Compare runs: a table here, and one HTML page of all of them, without a network.

Perplexity, maps of alpha and decay, seconds and goodput side by side, and the
settings that set the runs apart. Runs may differ in method, size and length,
be under way or lack pieces: what one has not got is said. One that cannot be
read is left out, and the exit status is 1 then.

Example: alphadecay compare runs/uniform runs/alphadecay --out compare.html
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alphadecay.inspect.run.comparison import Comparison

EXIT_LEFT_OUT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the runs' folders")
    parser.add_argument("--out", type=Path, metavar="FILE.html", help="the page; none without it")
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects instead")


def run(options: argparse.Namespace) -> int:
    """Print the table, and write the page.

    Raises:
        InspectError: no run can be read, or the page cannot be written.
    """
    from alphadecay.inspect.run.comparison import read_comparison
    from alphadecay.inspect.run.comparison_text import comparison_rows, comparison_text

    comparison = read_comparison(options.runs)
    said = _write(comparison, options.out) if options.out is not None else ""
    if options.json:
        print(json.dumps(comparison_rows(comparison)))
    else:
        print("\n\n".join(filter(None, [comparison_text(comparison), said])))
    return EXIT_LEFT_OUT if comparison.left_out else 0


def _write(comparison: Comparison, out: Path) -> str:
    from alphadecay.inspect.html.write import require_plotly, write_page

    require_plotly()
    from alphadecay.inspect.html.compare import render

    return write_page(out, render(comparison))
