"""Defines what a grid of experiments is made of: a table's cells, and the runs that fill them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from train.errors import UserError
from train.experiments.grids.first_step import FirstStep


@dataclass(frozen=True)
class Cell:
    """One entry of a table, over its seeds.

    Args:
        grid: name of its grid.
        row: label of its row, e.g. "AlphaDecay".
        column: label of its column, e.g. "60M, 1e-5".
        recipe: the recipe it builds upon.
        overrides: dotted key -> text, as in `--config RECIPE --key text`.
        paper: the perplexity that the grid's source gives for it; None where it gives none.
        key: fit for a folder's name, unlike that of any other cell of the grid, and stable:
            "adam-60m-1e-5-alphadecay".
    """

    grid: str
    row: str
    column: str
    recipe: Path
    overrides: Mapping[str, str] = field(hash=False)
    paper: float | None
    key: str

    def arguments(self, extra: Mapping[str, str] | None = None) -> list[str]:
        """Return the arguments for train/pretrain.py, but for what is each run's own.

        Args:
            extra: overrides that win over the cell's own.
        """
        overrides = {**self.overrides, **(extra or {})}
        words = ["--config", str(self.recipe)]
        for key, text in overrides.items():
            words += [f"--{key}", text]
        return words


@dataclass(frozen=True)
class Run:
    """One seed of a cell.

    Args:
        cell: what is trained.
        seed: run.seed, of the initialisation and of the order of the data.
        folder: its output_dir, ROOT/<grid>/<cell key>/seed-<n>.
    """

    cell: Cell
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """The run's `name` in the configuration."""
        return f"{self.cell.key}-seed-{self.seed}"

    @property
    def label(self) -> str:
        """The name by which a person reads of the run."""
        return f"{self.cell.key} seed {self.seed}"

    def arguments(self, extra: Mapping[str, str] | None = None) -> list[str]:
        """Return the arguments for train/pretrain.py; `extra` overrides win over the cell's own."""
        words = [*self.cell.arguments(extra), "--name", self.name]
        return [*words, "--run.seed", str(self.seed), "--output_dir", str(self.folder)]


@dataclass(frozen=True)
class Grid:
    """A table of experiments.

    Args:
        name: by which it is asked for.
        title: of the table.
        source: where its figures come from, e.g. "arXiv 2506.14562, Table 1"; empty for one of our
            own.
        setup: what the source trained on and how, for the caption; may be empty.
        rows: labels, in order.
        columns: labels, in order. A cell has one of each; not every pair has a cell, e.g. no decay
            has one column a size, "60M, 0".
        baseline: the row that others are compared with.
        cells: row by row, in the order of the columns.
        seeds: each cell is run once with each.
        first_step: by what its runs are compared instead of their task's figure of merit; None for
            that.
    """

    name: str
    title: str
    source: str
    setup: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    baseline: str
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    first_step: FirstStep | None = None

    def runs(self, root: Path = Path("runs")) -> tuple[Run, ...]:
        """Return every seed of every cell: all cells of the first seed, then of the next.

        So a sweep that is cut short leaves whole tables.
        """
        runs = []
        for seed in self.seeds:
            for cell in self.cells:
                runs.append(Run(cell, seed, root / self.name / cell.key / f"seed-{seed}"))
        return tuple(runs)

    def narrowed(self, only: Sequence[str] = (), seeds: Iterable[int] | None = None) -> Grid:
        """Return the same grid with fewer cells, or with other seeds.

        Rows and columns without a cell go, too.

        Args:
            only: shell patterns; kept is a cell whose row, column or key matches one of them, case
                aside. Empty keeps all.
            seeds: instead of the grid's own; None keeps those.

        Raises:
            UserError: a pattern that matches no cell.
        """
        for pattern in only:
            if not any(_matches(cell, pattern) for cell in self.cells):
                raise UserError(
                    f"--only {pattern!r} matches no cell of {self.name}; it has the rows "
                    f"{', '.join(self.rows)} and the columns {'; '.join(self.columns)}. Patterns "
                    "are the shell's, as in '60M*'"
                )
        cells = tuple(
            cell
            for cell in self.cells
            if not only or any(_matches(cell, pattern) for pattern in only)
        )
        rows = {cell.row for cell in cells}
        columns = {cell.column for cell in cells}
        return dataclasses.replace(
            self,
            cells=cells,
            rows=tuple(row for row in self.rows if row in rows),
            columns=tuple(column for column in self.columns if column in columns),
            seeds=self.seeds if seeds is None else tuple(dict.fromkeys(seeds)),
        )


def _matches(cell: Cell, pattern: str) -> bool:
    return any(
        fnmatchcase(name.lower(), pattern.lower()) for name in (cell.row, cell.column, cell.key)
    )
