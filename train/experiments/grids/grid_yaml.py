"""Multiplies a grid out into cells from its description in YAML.

    title: How strong a decay                  # title of the table
    source: arXiv 2506.14562, Table 1          # origin of the figures under `paper`
    setup: 1 B tokens of C4                    # what the source trained on, for the caption
    recipe: train/recipes/llama_60m.yaml       # what every cell builds upon
    common: {optim.name: adam}                 # overrides of every cell; or a list of such
    seeds: [0, 1, 2]                           # run.seed of each cell's runs
    baseline: Uniform                          # the row that others are compared with
    figure: {first: val_accuracy, reaches: 99, label: grokking step}   # not the task's own
    columns:                                   # label -> overrides; or a list of such axes
      - 60M: {}
        135M: {recipe: train/recipes/llama_130m.yaml}
      - 1e-5: {optim.weight_decay: 1e-5}
        5e-6: {optim.weight_decay: 5e-6}
    rows:                                      # label -> overrides
      Uniform: {decay.method: uniform}
      AlphaDecay: {decay.method: alphadecay, decay.s2: 3}
    paper:                                     # the source's figures; ~ where there is none
      Uniform: [32.39, 32.56, 22.99, 23.14]

`source`, `setup` and `figure` may be left out; `seeds` is then 42, `baseline` Uniform. Several
axes of columns make their product: "60M, 1e-5". `paper` has a figure for each column that a row
has.

Overrides are keys and values as on the command line of train/pretrain.py. Later ones win: the
recipe, `common`, the axes of the columns in their order, the row. Two words stand among them:
`recipe`, another recipe; and `only`, which cells there are: shell patterns of columns in a row's
overrides, of rows in a column's. What every run gets from the sweep (name, output_dir, resume,
run.seed) is not set here.

A file may hold several grids: `grids: {NAME: {title: ...}, ...}`. `parts` may then hold what they
share, by YAML's anchors and aliases. A file of one grid may say its `name`; else it is the file's.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from train.config.recipe_file import find_recipe
from train.errors import UserError
from train.experiments.grids.cells import Cell, Grid
from train.experiments.grids.descriptions import (
    Description,
    as_mapping,
    as_number,
    as_text,
    check_keys,
)
from train.experiments.grids.entries import Entry, read_entries, read_overrides
from train.experiments.grids.first_step import read_first_step
from train.experiments.grids.resolved_run import config_of

KEYS = (
    "name",
    "title",
    "source",
    "setup",
    "recipe",
    "common",
    "seeds",
    "baseline",
    "figure",
    "columns",
    "rows",
    "paper",
)
NEEDED = ("title", "columns", "rows")
NO_FIGURE = ("~", "", "null")


@dataclass(frozen=True)
class _Column:
    """A column: one value of each axis."""

    parts: tuple[Entry, ...]

    @property
    def label(self) -> str:
        return ", ".join(value.label for value in self.parts)


def make_grid(path: Path, name: str, description: Description) -> Grid:
    """Make the grid of one description.

    Args:
        path: its file, to point at.

    Raises:
        UserError: an unknown key, a cell that train/pretrain.py would refuse, two cells of one
            name, figures without a cell.
    """
    where = f"{path}: {name}"
    check_keys(description, KEYS, where)
    for key in NEEDED:
        if not description.get(key):
            raise UserError(f"{where} has no {key}; see train/experiments/grids/grid_yaml.py")
    rows = read_entries(description["rows"], f"{where}, rows")
    columns = _columns(description["columns"], f"{where}, columns")
    baseline = _baseline(description, rows, where)
    base = _base(description, where)
    pairs = _pairs(rows, columns)
    _all_used(rows, columns, where)
    paper = _paper(description.get("paper", {}), pairs, where)
    cells = tuple(
        _cell(name, row, column.label, (*base, *column.parts, row), paper, where)
        for row, column in pairs
    )
    _distinct(cells, where)
    for cell in cells:
        _read(cell, path)
    used = {cell.column for cell in cells}
    return Grid(
        name,
        title=as_text(description.get("title", ""), f"{where}, title"),
        source=as_text(description.get("source", ""), f"{where}, source"),
        setup=as_text(description.get("setup", ""), f"{where}, setup"),
        rows=tuple(row.label for row in rows),
        columns=tuple(column.label for column in columns if column.label in used),
        baseline=baseline,
        cells=cells,
        seeds=_seeds(description, where),
        first_step=read_first_step(description.get("figure", {}), f"{where}, figure"),
    )


def _columns(axes: Any, where: str) -> list[_Column]:
    """Return the product of the axes."""
    entries = [read_entries(axis, where) for axis in (axes if isinstance(axes, list) else [axes])]
    return [_Column(parts) for parts in itertools.product(*entries)]


def _baseline(description: Description, rows: list[Entry], where: str) -> str:
    baseline = as_text(description.get("baseline", "Uniform"), f"{where}, baseline")
    labels = [row.label for row in rows]
    if baseline not in labels:
        raise UserError(
            f"{where}: the baseline {baseline!r} is no row; set `baseline` to one of "
            f"{', '.join(labels)}"
        )
    return baseline


def _pairs(rows: list[Entry], columns: list[_Column]) -> list[tuple[Entry, _Column]]:
    """Return the rows and columns that have a cell, row by row."""
    pairs = itertools.product(rows, columns)
    return [(row, column) for row, column in pairs if _exists(row, column)]


# --- cells -----------------------------------------------------------------------------------


def _exists(row: Entry, column: _Column) -> bool:
    wanted = all(_any(row.label, value.only) for value in column.parts if value.only)
    return wanted and (not row.only or _any(column.label, row.only))


def _cell(
    grid: str,
    row: Entry,
    label: str,
    parts: Iterable[Entry],
    paper: Mapping[tuple[str, str], float | None],
    where: str,
) -> Cell:
    recipe = ""
    overrides = dict[str, str]()
    for part in parts:
        recipe = part.recipe or recipe
        overrides.update(part.overrides)
    if not recipe:
        raise UserError(
            f"{where}: {row.label} at {label} has no recipe; add `recipe: train/recipes/NAME.yaml`"
        )
    return Cell(
        grid,
        row.label,
        label,
        find_recipe(recipe),
        overrides,
        paper.get((row.label, label)),
        _slug(f"{grid} {label} {row.label}"),
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def _read(cell: Cell, path: Path) -> None:
    """Refuse what train/pretrain.py would."""
    try:
        config_of(cell)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _distinct(cells: tuple[Cell, ...], where: str) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        other = seen.setdefault(cell.key, cell)
        if other is not cell:
            raise UserError(
                f"{where}: {other.row} at {other.column} and {cell.row} at {cell.column} would "
                f"share the folder {cell.key}; rename one"
            )


def _all_used(rows: list[Entry], columns: list[_Column], where: str) -> None:
    """Refuse a pattern that matches nothing: it is a misspelt one."""
    row_labels = [row.label for row in rows]
    column_labels = [column.label for column in columns]
    wanted = [(row, column_labels) for row in rows]
    wanted += [(value, row_labels) for column in columns for value in column.parts]
    for entry, names in wanted:
        for pattern in entry.only:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(
                    f"{where}: {entry.label}: only {pattern!r} matches none of {'; '.join(names)}"
                )


def _any(label: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(label, pattern) for pattern in patterns)


# --- values ----------------------------------------------------------------------------------


def _base(description: Description, where: str) -> list[Entry]:
    """Return what every cell begins with."""
    common = description.get("common", {})
    recipe = Entry("", as_text(description.get("recipe", ""), f"{where}, recipe"))
    parts = common if isinstance(common, list) else [common]
    overrides = [read_overrides(part, f"{where}, common") for part in parts]
    return [recipe, *(Entry("", overrides=part) for part in overrides)]


def _paper(
    values: Any, pairs: list[tuple[Entry, _Column]], where: str
) -> dict[tuple[str, str], float | None]:
    paper: dict[tuple[str, str], float | None] = {}
    columns: dict[str, list[str]] = {}
    for row, column in pairs:
        columns.setdefault(row.label, []).append(column.label)
    figures = as_mapping(values, f"{where}, paper")
    check_keys(figures, columns, f"{where}, paper")
    for row_label, given in figures.items():
        names = columns[row_label]
        given = given if isinstance(given, list) else [given]
        if len(given) != len(names):
            raise UserError(
                f"{where}, paper, {row_label}: {len(given)} figures, and the row has {len(names)} "
                f"columns: {'; '.join(names)}"
            )
        for label, text in zip(names, given, strict=True):
            paper[row_label, label] = None
            if text not in NO_FIGURE:
                paper[row_label, label] = as_number(text, f"{where}, paper, {row_label}")
    return paper


def _seeds(description: Description, where: str) -> tuple[int, ...]:
    seeds = description.get("seeds", ["42"])
    seeds = seeds if isinstance(seeds, list) else [seeds]
    numbers = tuple(int(seed) for seed in seeds if isinstance(seed, str) and seed.isdecimal())
    if not seeds or len(numbers) < len(seeds) or len(set(numbers)) < len(numbers):
        raise UserError(f"{where}, seeds: {seeds}; write different whole numbers, as in [0, 1, 2]")
    return numbers
