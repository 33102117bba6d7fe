"""Writes the page of a run as one file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.run.reader import read_run
from alphadecay.inspect.run_folder import REPORT
from alphadecay.inspect.writing import write


def write_report(folder: Path, out: Path | None = None, modules: Sequence[str] = ()) -> str:
    """Write the report, and return what was done in a line.

    Args:
        folder: of the run.
        out: the file; by default report.html in the folder. One that is there is replaced.
        modules: shell patterns of the weights whose spectra are drawn; none takes those of the
            smallest, median and largest α.

    Raises:
        InspectError: no run there, a pattern that matches nothing, or a file that cannot be
            written.
    """
    require_plotly()
    from alphadecay.inspect.html.report import render

    return write_page(out or folder / REPORT, render(read_run(folder), modules))


def require_plotly() -> None:
    """Make sure that charts can be drawn.

    Raises:
        InspectError: they cannot; the message says what to install.
    """
    if find_spec("plotly") is None:
        raise InspectError("a page is drawn by plotly, which is not installed; pip install plotly")


def write_page(path: Path, text: str) -> str:
    """Write a page in one move, and return what was done in a line.

    Raises:
        InspectError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InspectError(f"{path} cannot be written: {error.strerror or error}") from error
    write(str(path), text)
    return f"{path}: {len(text.encode()) / 1e6:.1f} MB, for any browser"
