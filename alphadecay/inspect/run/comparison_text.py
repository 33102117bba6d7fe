"""Writes a comparison of runs for a terminal of 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from alphadecay.inspect.run.comparison import Compared, Comparison, shared_label
from alphadecay.inspect.run.grid import figures
from alphadecay.inspect.run.metrics import PERPLEXITY, Record, figure_of
from alphadecay.inspect.run.reader import SCORES
from alphadecay.inspect.run.words import clock, number, number_or_dash

WIDTH = 80
_LONGEST_NAME = 16
# where there is none, the figure of merit has its own
_HEADINGS = ("run", "step", "", "loss", "alpha", "decay", "refresh", "time", "good")


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the figures of each run as plain values; None for what it has not got.

    alpha and decay are [smallest, mean, largest] of the last refresh.
    """
    return [_row(one) for one in comparison.runs]


def comparison_text(comparison: Comparison) -> str:
    """Return a table of the runs, and what each has not got."""
    lines = [*_table(comparison_rows(comparison), shared_label(comparison.runs))]
    remarks = [f"{one.label}: {remark}" for one in comparison.runs for remark in one.remarks]
    remarks += [f"left out: {reason}" for reason in comparison.left_out.values()]
    if remarks:
        lines += ["", *(textwrap.fill(text, WIDTH, subsequent_indent="  ") for text in remarks)]
    return "\n".join(lines)


def _row(one: Compared) -> dict[str, Any]:
    run = one.run
    figure = figure_of(run.of("validation"))
    refreshes = run.of("refresh")
    timed = [record["refresh_seconds"] for record in refreshes if record.get("refresh_seconds")]
    return {
        "run": one.label,
        "folder": str(run.folder),
        "state": run.state.get("state"),
        "method": run.method or None,
        "step": run.last_step,
        "steps": run.setting("run", "steps"),
        "figure": figure.name,
        figure.name: _last(run.of("validation"), figure.name),
        "loss": _last(run.of("train"), "loss"),
        "tokens": _last(run.of("train"), "tokens"),
        "alpha": None if run.method in SCORES else _spread(refreshes, "alphas"),
        "decay": _spread(refreshes, "weight_decays"),
        "refresh_seconds": math.fsum(timed) / len(timed) if timed else None,
        "seconds": _seconds(run.of("train")),
        "goodput": run.goodput["share"] if run.goodput else None,
        "remarks": list(one.remarks),
    }


def _last(records: Sequence[Record], key: str) -> Any:
    """Return the last value that is one; NaN was written as null."""
    return next((record[key] for record in reversed(records) if record.get(key) is not None), None)


def _spread(refreshes: Sequence[Record], key: str) -> list[float] | None:
    values = list((refreshes[-1].get(key) or {}).values()) if refreshes else []
    known = [value for value in values if value is not None]
    return [min(known), math.fsum(known) / len(known), max(known)] if known else None


def _seconds(records: Sequence[Record]) -> float | None:
    parts = [value for record in records for value in (record.get("seconds") or {}).values()]
    return math.fsum(value for value in parts if value) if parts else None


def _table(rows: Sequence[dict[str, Any]], figure: str) -> Iterator[str]:
    short = "ppl" if figure == PERPLEXITY.label else figure
    headings = tuple(heading or short for heading in _HEADINGS)
    cells = [headings, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADINGS))]
    for first, *others in cells:
        line = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *line])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    name = row["run"]
    short = name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]
    alpha, decay, seconds = row["alpha"], row["decay"], row["seconds"]
    return (
        short,
        number(row["step"]),
        number_or_dash(row[row["figure"]]),
        number_or_dash(row["loss"], "{:.3f}"),
        f"{alpha[1]:.2f}" if alpha else "-",
        figures(decay[1]) if decay else "-",
        number_or_dash(row["refresh_seconds"]),
        clock(seconds) if seconds else "-",
        number_or_dash(row["goodput"], "{:.0%}"),
    )
