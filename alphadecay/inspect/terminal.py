"""What the commands print: tables and pictures of characters, for a terminal or for a pipe.

On a terminal a table fits its width, names shortened in the middle; piped, names are whole. There
is no colour: what matters is said in words.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence

LEAST_NAME = 16  # characters of a shortened name
_GAP = "  "


def width() -> int | None:
    """Return the columns of the terminal that output goes to; None where it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(head: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None) -> str:
    """Return a table: the first column, of names, to the left, the others to the right.

    Args: columns: of the terminal, to which names are shortened; None leaves them whole.
    """
    lines = [head, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    if columns is not None:
        others = sum(widths[1:]) + len(_GAP) * (len(widths) - 1)
        widths[0] = max(LEAST_NAME, min(widths[0], columns - others))
    return "\n".join(_line(line, widths) for line in lines)


def shorten(name: str, most: int) -> str:
    """Return a name of at most so many characters, its middle left out where it is longer."""
    if len(name) <= most:
        return name
    tail = (most - 3) * 2 // 3
    return f"{name[: most - 3 - tail]}...{name[-tail:]}"


def number(value: float, form: str = ".3f") -> str:
    """Return a number, or a dash where there is none."""
    return format(value, form) if math.isfinite(value) else "-"


def bar(share: float, length: int) -> str:
    """Return a bar that fills its share, between 0 and 1, of so many characters."""
    return "#" * round(min(max(share, 0.0), 1.0) * length)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = shorten(cells[0], widths[0]).ljust(widths[0])
    rest = [cell.rjust(size) for cell, size in zip(cells[1:], widths[1:], strict=True)]
    return _GAP.join([first, *rest]).rstrip()
