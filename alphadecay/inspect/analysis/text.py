"""An analysis in words and in a table, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from alphadecay.inspect.analysis.quality import QUALITY, QUALITY_SOURCE
from alphadecay.inspect.analysis.rows import FIT_SOURCE, Analysis, Row
from alphadecay.inspect.terminal import number, paragraph, table

_MOST_NAMES = 8  # of a list, after which it is cut
_WIDTH = 100  # of sentences, where no terminal says less


def as_text(analysis: Analysis, columns: int | None) -> str:
    """Return the table of the weights, then what is said of the whole.

    Args: columns: of the terminal; None where there is none.
    """
    blocks = [
        f"{analysis.model}: {analysis.form}",
        table(*_cells(analysis.rows), columns),
        "\n".join(_quality(analysis)),
        *_lists(analysis),
    ]
    wide = columns or _WIDTH
    return "\n\n".join(_wrapped(block, wide) for block in blocks if block)


def _cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    randomized = any(row.traps is not None for row in rows)
    head = ["weight", "shape", "alpha", "KS", "tail", "stable", "decay"]
    if randomized:
        head += ["beyond", "traps"]
    lines = []
    for row in rows:
        cells = [
            row.name,
            "x".join(map(str, row.shape)),
            number(row.alpha) if math.isfinite(row.alpha) else row.status,
            number(row.ks_distance),
            str(row.tail_count) if row.tail_count else "-",
            number(row.stable_rank, ".1f"),
            number(row.decay, ".4g"),
        ]
        if randomized:
            cells += [_count(row.beyond_shuffled), _count(row.traps)]
        lines.append(cells)
    return head, lines


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _quality(analysis: Analysis) -> Iterator[str]:
    yield "The whole, over the weights that have an alpha:"
    for name, (_, words) in QUALITY.items():
        yield f"  {number(analysis.quality[name], '10.4f'):>10}  {words}"


def _lists(analysis: Analysis) -> Iterator[str]:
    rows = analysis.outside
    if rows:
        names = [f"{row.name} ({row.alpha:.2f})" for row in rows]
        yield f"alpha outside 2 to 6 ({FIT_SOURCE}): {_some(names)}"
    yield f"Measures of the whole: {QUALITY_SOURCE}."
    trapped = [f"{row.name} ({row.traps})" for row in analysis.rows if row.traps]
    if trapped:
        yield f"correlation traps, eigenvalues of the shuffled copy: {_some(trapped)}"
    yield from analysis.warnings
    by_reason: dict[str, list[str]] = {}
    for name, reason in analysis.left_out.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        yield f"left out, for {reason}: {_some(names)}"
    if analysis.set_aside:
        yield "\n".join(["set aside:", *_reasons(analysis.set_aside)])


def _reasons(reasons: Mapping[str, str]) -> Iterator[str]:
    for name, reason in list(reasons.items())[:_MOST_NAMES]:
        yield f"  {name}: {reason}"
    if len(reasons) > _MOST_NAMES:
        yield f"  and {len(reasons) - _MOST_NAMES} more; --json names them all"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _wrapped(block: str, columns: int) -> str:
    """Wrap a block of one line; one of several is laid out already."""
    if "\n" in block:
        return block
    return paragraph(block, columns)
