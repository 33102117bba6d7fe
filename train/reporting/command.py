"""A report of a run as one HTML file: `python -m train report RUN [--out FILE.html] [--modules
PATTERN ...]`.

It needs no network and fits a phone: loss and perplexity, α and decay by layer and type and how
they moved, spectra with the fitted tail, where the time went, the configuration. A run may be under
way, stopped or finished; what it has not got is left out, with the reason.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from train.config.run_folder import REPORT
from train.errors import UserError, as_command
from train.system.environment import prepare_environment
from train.system.files import write_atomically


def report(folder: Path, out: Path | None = None, modules: Sequence[str] = ()) -> str:
    """Write the report, and return what was done in a line.

    Args:
        folder: of the run.
        out: the file; by default report.html in the folder. One that is there is replaced.
        modules: shell patterns of the weights whose spectra are drawn; none takes those of the
            smallest, median and largest α.

    Raises:
        UserError: no run there, a pattern that matches nothing, or a file that cannot be written.
    """
    if find_spec("plotly") is None:
        raise UserError("a report is drawn by plotly, which is not installed; pip install plotly")
    from train.loop.run_reader import read_run
    from train.reporting.html.report import render

    path = out or folder / REPORT
    text = render(read_run(folder), modules)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return f"{path}: {len(text.encode()) / 1e6:.1f} MB, for any browser"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; a user's mistake is one message, not a
    traceback.
    """
    parser = argparse.ArgumentParser(
        prog="python -m train report", description="Write a report of a run as one HTML file."
    )
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
    o = parser.parse_args(argv)
    prepare_environment()
    return as_command(lambda: print(report(o.run, o.out, o.modules)))
