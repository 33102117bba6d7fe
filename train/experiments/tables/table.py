"""A grid's table, whole: figures, runs that count and runs that do not, and what must be said of
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from alphadecay.inspect.run.metrics import PERPLEXITY
from train.experiments.grids.cells import Grid
from train.experiments.tables.aggregate import Entry, aggregate
from train.experiments.tables.collect import Collected, collect
from train.experiments.tables.lr_sensitivity import Sensitivity, sensitivities
from train.experiments.tables.setup_notes import Caption, caption


@dataclass(frozen=True)
class Table:
    """Everything that the writers write.

    Args:
        grid: what was asked for.
        entries: a cell each.
        collected: its runs.
        caption: what stands below.
        overrides: that the sweep was given besides the grid's.
        strangers: seeds that have folders and were not asked for.
        sensitivities: to the learning rate, where columns differ in it alone.
    """

    grid: Grid
    entries: tuple[Entry, ...]
    collected: Collected
    caption: Caption
    overrides: Mapping[str, str]
    strangers: tuple[int, ...]
    sensitivities: tuple[Sensitivity, ...] = ()

    @property
    def label(self) -> str:
        """What people call the figure of merit, where all columns have the same one."""
        labels = {entry.figure.label for entry in self.entries}
        return labels.pop() if len(labels) == 1 else "figure of merit"

    @property
    def of_text(self) -> bool:
        """Whether a column is of perplexities, of which the published code has its own count."""
        return any(entry.figure == PERPLEXITY for entry in self.entries)

    def entry(self, row: str, column: str) -> Entry | None:
        """Return a cell's entry; None where the grid has no such cell."""
        return next(
            (
                entry
                for entry in self.entries
                if (entry.cell.row, entry.cell.column) == (row, column)
            ),
            None,
        )


def make_table(
    grid: Grid, root: Path, overrides: Mapping[str, str] = MappingProxyType({})
) -> Table:
    """Read the runs of a grid.

    Args:
        root: the folder of all grids' runs.
        overrides: as the sweep was given, besides the grid's.
    """
    collected = collect(grid.runs(root), overrides, grid.first_step)
    records = collected.records
    lost = ("diverged", "not reached")
    without = {absent.run.cell.key for absent in collected.absent if absent.why in lost}
    return Table(
        grid,
        aggregate(grid, records, without),
        collected,
        caption(grid, records),
        overrides,
        _strangers(grid, root),
        sensitivities(grid, collected),
    )


def _strangers(grid: Grid, root: Path) -> tuple[int, ...]:
    folders = [folder for run in grid.runs(root) for folder in run.folder.parent.glob("seed-*")]
    seeds = {
        int(number)
        for folder in folders
        if (number := folder.name.removeprefix("seed-")).isdecimal()
    }
    return tuple(sorted(seeds - set(grid.seeds)))
