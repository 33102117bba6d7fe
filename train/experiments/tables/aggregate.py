"""Turns records into the figures of every cell: over its seeds, and against the baseline of its
column.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from alphadecay.inspect.run.metrics import PERPLEXITY, FigureOfMerit
from train.experiments.grids.cells import Cell, Grid
from train.experiments.tables.collect import Record
from train.experiments.tables.statistics import Difference, Spread, paired_difference, spread_of

Measure = Callable[[Record], float | None]


@dataclass(frozen=True)
class Figures:
    """One figure of a cell.

    Args:
        values: by seed, in the order of the seeds.
        spread: over its seeds; None where no run has it.
        difference: to the baseline of the same column; None for the baseline itself, and where they
            share no seed.
    """

    values: Mapping[int, float]
    spread: Spread | None
    difference: Difference | None


@dataclass(frozen=True)
class Entry:
    """A cell with its figures.

    Args:
        cell: which one.
        planned: runs that the grid has for it.
        figure: of merit, of its column.
        unbiased: that figure on the validation set.
        published: a perplexity as the published code counts.
        best: no mean of its column is better, and none of its runs ended without a figure.
    """

    cell: Cell
    planned: int
    figure: FigureOfMerit
    unbiased: Figures
    published: Figures
    best: bool

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs that count."""
        return tuple(self.unbiased.values)

    @property
    def as_paper(self) -> Figures:
        """The figure as the paper counts it."""
        return self.published if self.figure == PERPLEXITY else self.unbiased

    @property
    def over_paper(self) -> float | None:
        """The figure as the paper counts it, less the paper's; None where either is missing."""
        if self.cell.paper is None or self.as_paper.spread is None:
            return None
        return self.as_paper.spread.mean - self.cell.paper


def aggregate(
    grid: Grid, records: Sequence[Record], without: Collection[str] = ()
) -> tuple[Entry, ...]:
    """Make an entry for every cell of the grid, in its order, with runs or without.

    Args:
        without: keys of cells with a run that ended without a figure; the mean of the others is no
            best.
    """
    unbiased = _figures(grid, records, lambda r: r.value)
    published = _figures(grid, records, lambda r: r.published)
    told = {record.run.cell.column: record.figure for record in records}
    entries = []
    for cell in grid.cells:
        column = [other.key for other in grid.cells if other.column == cell.column]
        means = [spread.mean for key in column if (spread := unbiased[key].spread)]
        own = unbiased[cell.key].spread
        figure = told.get(cell.column, PERPLEXITY)
        leads = own is not None and len(means) > 1 and own.mean == _best(means, figure)
        best = leads and cell.key not in without
        both = unbiased[cell.key], published[cell.key]
        entries.append(Entry(cell, len(grid.seeds), figure, *both, best))
    return tuple(entries)


def _best(means: Sequence[float], figure: FigureOfMerit) -> float:
    return min(means) if figure.better == "lower" else max(means)


def _figures(grid: Grid, records: Sequence[Record], measure: Measure) -> dict[str, Figures]:
    """Return the figures by cell key."""
    by_cell: dict[str, dict[int, float]] = {cell.key: {} for cell in grid.cells}
    for record in sorted(records, key=lambda record: record.run.seed):
        value = measure(record)
        if value is not None:
            by_cell[record.run.cell.key][record.run.seed] = value
    baselines = {cell.column: cell.key for cell in grid.cells if cell.row == grid.baseline}
    figures = {}
    for cell in grid.cells:
        values = by_cell[cell.key]
        baseline = baselines.get(cell.column, cell.key)
        difference = None if baseline == cell.key else paired_difference(values, by_cell[baseline])
        figures[cell.key] = Figures(values, spread_of([*values.values()]), difference)
    return figures
