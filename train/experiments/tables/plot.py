"""Draws a table: every seed a point, a pair of panels for each column of the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from train.experiments.tables.aggregate import Entry
from train.experiments.tables.statistics import CONFIDENCE
from train.experiments.tables.table import Table

WIDEST = 3  # columns of the table side by side
BAR = 0.18  # how far below the middle of its row
INK = "#333333"
POINT = "#7a8ba0"
BETTER = "#1a7f4b"
WORSE = "#b3372f"
PAPER = "#c77d0a"
DIAMOND: dict[str, Any] = {
    "marker": "D",
    "markersize": 6.5,
    "markerfacecolor": "none",
    "markeredgecolor": PAPER,
    "markeredgewidth": 1.4,
    "linestyle": "none",
    "zorder": 6,
}
DOT: dict[str, Any] = {
    "marker": "o",
    "markersize": 5,
    "color": POINT,
    "markeredgecolor": "white",
    "markeredgewidth": 0.7,
    "linestyle": "none",
    "zorder": 5,
}
COLOURS = {"better": BETTER, "": INK, "worse": WORSE}


def write_plot(path: Path, table: Table) -> None:
    """Draw the PNG of a table that has runs.

    On the left of a pair the seeds with their mean ± standard deviation, on the right their
    differences to the baseline with the mean's interval, and a diamond where the paper has a
    difference, as it counts.
    """
    shown = [
        column
        for column in table.grid.columns
        if any(e.cell.column == column and e.seeds for e in table.entries)
    ]
    lines = _lines(table, shown)
    across = max(map(len, lines))
    heights = [max(len(_entries(table, column)) for column in line) * 0.4 + 1.05 for line in lines]
    figure = Figure(figsize=(6.4 * across, sum(heights) + 1.0), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    figure.suptitle(table.grid.title, fontsize=14, fontweight="bold")
    parts = figure.subfigures(len(lines), across, squeeze=False, height_ratios=heights, wspace=0.03)
    for line, row in zip(lines, parts, strict=True):
        for column, part in zip(line, row, strict=False):
            _column(part, table, column)
    _legend(figure, table, across)
    figure.savefig(path)


def _lines(table: Table, columns: Sequence[str]) -> list[Sequence[str]]:
    """Arrange the columns of the table in lines, so many side by side."""
    # Columns of one method, such as no decay, below the others: their panels are low.
    lone = [column for column in columns if len(_entries(table, column)) == 1]
    full = [column for column in columns if column not in lone]
    across = min(max(len(full), len(lone)), WIDEST)
    if max(len(full), len(lone)) == 4:
        across = 2
    return [part[at : at + across] for part in (full, lone) for at in range(0, len(part), across)]


def _legend(figure: Figure, table: Table, across: int) -> None:
    legend = figure.legend(
        handles=_key(table),
        loc="outside lower center",
        ncols=5 if across > 1 else 2,
        fontsize=9,
        frameon=False,
    )
    if table.caption.departures:
        names = ", ".join(departure.what for departure in table.caption.departures)
        lines = wrap(f"Differs from the paper in: {names}", 70 * across)
        legend.set_title("\n".join(lines), prop=FontProperties(size=9))


def _column(part: Figure, table: Table, column: str) -> None:
    """Draw a pair of panels; one where nothing is compared with the baseline."""
    entries = _entries(table, column)
    compared = any(entry.unbiased.difference for entry in entries)
    part.suptitle(column, fontsize=11, fontweight="bold", x=0.02, ha="left")
    left, *right = part.subplots(1, 2 if compared else 1, sharey=True, squeeze=False)[0]
    _panel(left, entries, f"validation {entries[0].figure.label}")
    left.set_yticks(range(len(entries)), [_label(entry) for entry in entries], fontsize=10)
    left.set_ylim(len(entries) - 0.5, -0.5)
    for at, entry in enumerate(entries):
        _values(left, at, entry)
    for axis in right:
        _panel(axis, entries, f"difference to {table.grid.baseline}")
        axis.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axis.tick_params(labelleft=False)
        for at, entry in enumerate(entries):
            _difference(axis, at, entry, table)


def _values(axis: Axes, at: int, entry: Entry) -> None:
    values = entry.unbiased.values
    axis.plot(list(values.values()), _rows(at, len(values)), **DOT)
    spread = entry.unbiased.spread
    if spread:
        reach = spread.sd or 0.0
        _bar(axis, at, spread.mean, spread.mean - reach, spread.mean + reach, INK)


def _difference(axis: Axes, at: int, entry: Entry, table: Table) -> None:
    baseline = table.entry(table.grid.baseline, entry.cell.column)
    difference = entry.unbiased.difference
    if baseline is None or entry is baseline:
        return
    if difference is not None:
        own = entry.unbiased.values
        theirs = baseline.unbiased.values
        values = [own[seed] - theirs[seed] for seed in difference.seeds]
        axis.plot(values, _rows(at, len(values)), **DOT)
        mean = difference.mean
        low = mean if difference.low is None else difference.low
        high = mean if difference.high is None else difference.high
        _bar(axis, at, mean, low, high, COLOURS[_verdict(entry)])
    if entry.cell.paper is not None and baseline.cell.paper is not None:
        axis.plot(entry.cell.paper - baseline.cell.paper, at + BAR, **DIAMOND)


def _verdict(entry: Entry) -> str:
    """Return better or worse where the interval of the difference says so."""
    side = entry.unbiased.difference.side if entry.unbiased.difference else 0
    if not side:
        return ""
    return "better" if (side < 0) == (entry.figure.better == "lower") else "worse"


def _bar(axis: Axes, at: int, mean: float, low: float, high: float, colour: str) -> None:
    axis.plot(
        [low, high],
        [at + BAR, at + BAR],
        color=colour,
        linewidth=1.8,
        solid_capstyle="butt",
        zorder=3,
    )
    axis.plot(mean, at + BAR, "|", color=colour, markersize=11, markeredgewidth=2.4, zorder=4)


def _panel(axis: Axes, entries: Sequence[Entry], heading: str) -> None:
    axis.set_xlabel(heading, fontsize=9.5)
    axis.tick_params(axis="x", labelsize=9)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="#e3e6ea", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.margins(x=0.08)
    axis.ticklabel_format(axis="x", useOffset=False)
    axis.locator_params(axis="x", nbins=6)
    axis.spines[["top", "right", "left"]].set_visible(False)
    for at in range(0, len(entries), 2):
        axis.axhspan(at - 0.5, at + 0.5, color="#f6f7f9", zorder=0, linewidth=0)


def _key(table: Table) -> list[Line2D]:
    """Make the legend of what the picture has."""
    compared = [entry.unbiased.difference for entry in table.entries if entry.unbiased.difference]
    handles = [
        Line2D([], [], label="one seed", **DOT),
        Line2D(
            [],
            [],
            color=INK,
            linewidth=1.8,
            label=f"mean ± sd; of a difference: mean and {CONFIDENCE:.0%} interval",
        ),
    ]
    seen = {_verdict(entry) for entry in table.entries}
    handles += [
        Line2D([], [], color=COLOURS[verdict], linewidth=1.8, label=f"{verdict}, by the interval")
        for verdict in ("better", "worse")
        if verdict in seen
    ]
    if compared and any(entry.cell.paper is not None for entry in table.entries):
        handles.append(Line2D([], [], label="the paper's difference, as it counts", **DIAMOND))
    return handles


def _entries(table: Table, column: str) -> list[Entry]:
    return [entry for row in table.grid.rows if (entry := table.entry(row, column)) is not None]


def _label(entry: Entry) -> str:
    if len(entry.seeds) == entry.planned:
        return entry.cell.row
    return f"{entry.cell.row} ({len(entry.seeds)} of {entry.planned})"


def _rows(at: int, count: int) -> list[float]:
    """Return the heights of the points, above the bar.

    The seeds are in order, so that equal figures are all seen and a seed is found again.
    """
    if count < 2:
        return [at - 0.18] * count
    return [at - 0.31 + 0.27 * place / (count - 1) for place in range(count)]
