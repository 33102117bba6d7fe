"""What changed between two models, in a table with bars."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from alphadecay.inspect.analysis.differences import Change, Difference
from alphadecay.inspect.analysis.quality import QUALITY
from alphadecay.inspect.terminal import number, paragraph, table

_ARM = 8  # characters of the longest bar, to either side
_MOST_NAMES = 8
_WIDTH = 100  # of sentences, where no terminal says less


def as_text(difference: Difference, columns: int | None) -> str:
    """Return the table of the weights that both have, and what only one has.

    Args: columns: of the terminal; None where there is none.
    """
    moved = [abs(change.delta) for change in difference.changes if math.isfinite(change.delta)]
    largest = max(moved, default=0.0)
    head = ["weight", "alpha", "then", "delta", "lower | higher", "moved"]
    rows = [_cells(change, largest) for change in difference.changes]
    blocks = [
        f"{difference.first} -> {difference.second}",
        table(head, rows, columns),
        "\n".join(_quality(difference)),
        *_lists(difference),
    ]
    wide = columns or _WIDTH
    return "\n\n".join(one if "\n" in one else paragraph(one, wide) for one in blocks)


def _cells(change: Change, largest: float) -> list[str]:
    return [
        change.name,
        number(change.alphas[0]),
        number(change.alphas[1]),
        number(change.delta, "+.3f"),
        _bar(change.delta, largest),
        number(change.distance, ".1%"),
    ]


def _bar(delta: float, largest: float) -> str:
    """Return a bar from the middle to the left for a lower alpha, to the right for a higher."""
    share = abs(delta) / largest if math.isfinite(delta) and largest > 0 else 0.0
    length = round(share * _ARM)
    left = "#" * length if delta < 0 else ""
    right = "#" * length if delta > 0 else ""
    return f"{left:>{_ARM}}|{right:<{_ARM}}"


def _quality(difference: Difference) -> Iterator[str]:
    yield "The whole, in the first and in the second:"
    for name, (before, after) in difference.quality.items():
        yield f"  {number(before, '.4f'):>10} {number(after, '.4f'):>10}  {QUALITY[name][1]}"
    known = [one.distance for one in difference.changes if math.isfinite(one.distance)]
    mean = sum(known) / len(known) if known else math.nan
    yield f"  {'':>10} {number(mean, '.4f'):>10}  average distance moved, of each weight's norm"


def _lists(difference: Difference) -> Iterator[str]:
    for words, names in (
        ("only in the first", difference.only_first),
        ("only in the second", difference.only_second),
        ("of another shape", [f"{n}: {both}" for n, both in difference.reshaped.items()]),
        ("set aside", [f"{name}: {why}" for name, why in difference.set_aside.items()]),
    ):
        if names:
            yield f"{words}: {_some(names)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
