"""What the commands print: tables and pictures of characters, for a terminal or for a pipe.

On a terminal a table fits its width, names shortened in the middle; piped, names are whole. There
is no colour: what matters is said in words.
"""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import takewhile

LEAST_NAME = 16  # characters of a shortened name
_GAP = "  "
_SUFFIX = ".weight"


def width() -> int | None:
    """Return the columns of the terminal that output goes to; None where it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(head: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None) -> str:
    """Return a table: the first column, of weights' names, to the left, the others to the right.

    Args: columns: of the terminal, to which names are shortened: without what all of them begin
        and end with, which a line below says, and then in the middle. None leaves them whole.
    """
    lines = [head, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    said = ""
    if columns is not None:
        room = max(LEAST_NAME, columns - sum(widths[1:]) - len(_GAP) * (len(widths) - 1))
        names = [row[0] for row in rows]
        if widths[0] > room:
            names, said = _without_what_all_have(names)
        names = [shorten(name, room) for name in names]
        lines = [head, *([name, *row[1:]] for name, row in zip(names, rows, strict=True))]
        widths[0] = max(len(line[0]) for line in lines)
    return "\n".join([*(_line(line, widths) for line in lines), *filter(None, [said])])


def _without_what_all_have(names: Sequence[str]) -> tuple[list[str], str]:
    """Return names without the parts in front that all have and without a last `.weight`, and a
    line that says so.
    """
    parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
    shared = ".".join(part[0] for part in takewhile(lambda part: len(set(part)) == 1, parts))
    prefix = f"{shared}." if shared else ""
    short = [name.removeprefix(prefix).removesuffix(_SUFFIX) for name in names]
    ending = f" and without {_SUFFIX}" if any(name.endswith(_SUFFIX) for name in names) else ""
    return short, f"(names below {shared or 'the model'}{ending})"


def shorten(name: str, most: int) -> str:
    """Return a name of at most so many characters, its middle left out where it is longer."""
    if len(name) <= most:
        return name
    tail = (most - 3) * 2 // 3
    return f"{name[: most - 3 - tail]}...{name[-tail:]}"


def paragraph(text: str, columns: int) -> str:
    """Return a text in lines of so many columns; names are not broken."""
    return textwrap.fill(text, columns, break_long_words=False, break_on_hyphens=False)


def number(value: float, form: str = ".3f") -> str:
    """Return a number, or a dash where there is none."""
    return format(value, form) if math.isfinite(value) else "-"


def bar(share: float, length: int) -> str:
    """Return a bar that fills its share, between 0 and 1, of so many characters."""
    return "#" * round(min(max(share, 0.0), 1.0) * length)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(size) for cell, size in zip(cells[1:], widths[1:], strict=True)]
    return _GAP.join([first, *rest]).rstrip()
