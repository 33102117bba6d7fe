"""A grid as it is written down, in YAML: read, checked, and multiplied out into cells.

    title: How strong a decay                    # of the table
    source: arXiv 2506.14562, Table 1            # where the figures under `paper` come from; left
        out for a grid of one's own
    setup: 1 B tokens of C4                      # what the source trained on, for the caption; may
        be left out
    recipe: train/recipes/llama_60m.yaml         # what every cell builds upon
    common: {optim.name: adam}                   # overrides of every cell; or a list of such
    seeds: [0, 1, 2]                             # run.seed of each cell's runs; 42 where left out
    baseline: Uniform                            # the row that others are compared with; Uniform
        where left out
    columns:                                     # label -> overrides; or a list of such axes, whose
        product it then is: "60M, 1e-5"
      - 60M: {}
        135M: {recipe: train/recipes/llama_130m.yaml}
      - 1e-5: {optim.weight_decay: 1e-5}
        5e-6: {optim.weight_decay: 5e-6}
    rows:                                        # label -> overrides
      Uniform: {decay.method: uniform}
      AlphaDecay: {decay.method: alphadecay, decay.s2: 3}
    paper:                                       # the source's figures, for each row one a column
        that it has; ~ where there is none Uniform: [32.39, 32.56, 22.99, 23.14]

Overrides are keys and values as on the command line of train/pretrain.py. Later ones win: the
    recipe, `common`, the axes of the columns
in their order, the row. Two words stand among them: `recipe`, another recipe; and `only`, which
    cells there are: shell patterns of columns
in a row's overrides, of rows in a column's. What every run gets from the sweep (name, output_dir,
resume, run.seed) is not set here.

A file may hold several grids: `grids: {NAME: {title: ...}, ...}`. `parts` may then hold what they
    share, by YAML's anchors and aliases.
A file of one grid may say its `name`; else it is the file's.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from train.config.arguments import SHORT
from train.config.recipe_file import find_recipe, yaml_problem
from train.errors import UserError
from train.experiments.grids.cells import Cell, Grid
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
    "columns",
    "rows",
    "paper",
)
NEEDED = ("title", "columns", "rows")
FILE_KEYS = ("grids", "parts")
FROM_THE_SWEEP = ("name", "output_dir", "resume", "run.seed")
NO_FIGURE = ("~", "", "null")

Description = Mapping[str, Any]


@dataclass(frozen=True)
class _Entry:
    """A row, or a value of an axis."""

    label: str
    recipe: str = ""
    only: tuple[str, ...] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)


def read_descriptions(path: Path) -> dict[str, Description]:
    """The grids that a file describes, by name, not yet looked into.

    Raises:
        UserError: it cannot be read, or is no description.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the grid {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}"
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}{yaml_problem(error)}") from error
    if not isinstance(found, dict):
        raise UserError(
            f"{path}: a grid takes keys and values, such as title, columns and rows; see "
            "train/experiments/grids/grid_yaml.py"
        )
    if "grids" not in found:
        single = {key: value for key, value in found.items() if key != "parts"}
        return {_text(found.get("name", path.stem), f"{path}: name"): single}
    _known(found, FILE_KEYS, str(path))
    grids = _mapping(found["grids"], f"{path}: grids")
    return {name: _mapping(grid, f"{path}: {name}") for name, grid in grids.items()}


def make_grid(path: Path, name: str, description: Description) -> Grid:
    """The grid of one description.

    Args:
        path: its file, to point at.

    Raises:
        UserError: an unknown key, a cell that train/pretrain.py would refuse, two cells of one
            name, figures without a cell.
    """
    where = f"{path}: {name}"
    _known(description, KEYS, where)
    for key in NEEDED:
        if not description.get(key):
            raise UserError(f"{where} has no {key}; see train/experiments/grids/grid_yaml.py")
    rows = _entries(description["rows"], f"{where}, rows")
    axes = (
        description["columns"]
        if isinstance(description["columns"], list)
        else [description["columns"]]
    )
    columns = list(itertools.product(*(_entries(axis, f"{where}, columns") for axis in axes)))
    labels = [", ".join(value.label for value in column) for column in columns]
    baseline = _text(description.get("baseline", "Uniform"), f"{where}, baseline")
    if baseline not in [row.label for row in rows]:
        raise UserError(
            f"{where}: the baseline {baseline!r} is no row; set `baseline` to one of "
            f"{', '.join(row.label for row in rows)}"
        )
    base = _base(description, where)
    pairs = [
        (row, label, column)
        for row in rows
        for label, column in zip(labels, columns, strict=True)
        if _exists(row, label, column)
    ]
    _all_used(rows, columns, labels, where)
    paper = _paper(description.get("paper", {}), pairs, where)
    cells = tuple(
        _cell(name, row, label, (*base, *column, row), paper, where) for row, label, column in pairs
    )
    _distinct(cells, where)
    for cell in cells:
        _read(cell, path)
    title, source, setup = (
        _text(description.get(key, ""), f"{where}, {key}") for key in ("title", "source", "setup")
    )
    used = {cell.column for cell in cells}
    columns_used = tuple(label for label in labels if label in used)
    return Grid(
        name,
        title,
        source,
        setup,
        tuple(row.label for row in rows),
        columns_used,
        baseline,
        cells,
        _seeds(description, where),
    )


# --- cells
# -------------------------------------------------------------------------------------------------


def _exists(row: _Entry, label: str, column: tuple[_Entry, ...]) -> bool:
    wanted = all(_any(row.label, value.only) for value in column if value.only)
    return wanted and (not row.only or _any(label, row.only))


def _cell(
    grid: str,
    row: _Entry,
    label: str,
    parts: Iterable[_Entry],
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
    """Refuses what train/pretrain.py would."""
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


def _all_used(
    rows: list[_Entry], columns: list[tuple[_Entry, ...]], labels: list[str], where: str
) -> None:
    """A pattern that matches nothing is a misspelt one."""
    row_labels = [row.label for row in rows]
    wanted = [(row.label, pattern, labels) for row in rows for pattern in row.only]
    wanted += [
        (value.label, pattern, row_labels)
        for column in columns
        for value in column
        for pattern in value.only
    ]
    for label, pattern, names in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"{where}: {label}: only {pattern!r} matches none of {'; '.join(names)}"
            )


def _any(label: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(label, pattern) for pattern in patterns)


# --- values
# -------------------------------------------------------------------------------------------------


class _Loader(yaml.BaseLoader):
    """Every scalar stays the text it was written as, so that 1e-5 is a label, too; a key that
    stands twice is refused.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            text = str(key.value)
            if text in seen:
                problem = f"{text!r} stands here and on line {seen[text]}; take one out"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen[text] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _entries(axis: Any, where: str) -> list[_Entry]:
    return [
        _entry(label, value, f"{where}, {label}") for label, value in _mapping(axis, where).items()
    ]


def _base(description: Description, where: str) -> list[_Entry]:
    """What every cell begins with."""
    common = description.get("common", {})
    recipe = _Entry("", _text(description.get("recipe", ""), f"{where}, recipe"))
    parts = common if isinstance(common, list) else [common]
    return [recipe, *(_Entry("", overrides=_overrides(part, f"{where}, common")) for part in parts)]


def _entry(label: str, value: Any, where: str) -> _Entry:
    words = dict(_mapping(value, where))
    recipe = _text(words.pop("recipe", ""), f"{where}, recipe")
    only = words.pop("only", [])
    patterns = tuple(
        _text(pattern, f"{where}, only") for pattern in (only if isinstance(only, list) else [only])
    )
    return _Entry(label, recipe, patterns, _overrides(words, where))


def _overrides(values: Any, where: str) -> dict[str, str]:
    found = {}
    for word, value in _mapping(values, where).items():
        key = SHORT.get(word, word)
        if key in FROM_THE_SWEEP:
            raise UserError(
                f"{where}: {key} is set by the sweep for each run; "
                + ("use seeds" if key == "run.seed" else "leave it out")
            )
        found[key] = value if isinstance(value, str) else json.dumps(value)
    return found


def _paper(
    values: Any, pairs: list[tuple[_Entry, str, tuple[_Entry, ...]]], where: str
) -> dict[tuple[str, str], float | None]:
    found: dict[tuple[str, str], float | None] = {}
    columns: dict[str, list[str]] = {}
    for row, label, _ in pairs:
        columns.setdefault(row.label, []).append(label)
    figures = _mapping(values, f"{where}, paper")
    _known(figures, columns, f"{where}, paper")
    for row_label, given in figures.items():
        names = columns[row_label]
        given = given if isinstance(given, list) else [given]
        if len(given) != len(names):
            raise UserError(
                f"{where}, paper, {row_label}: {len(given)} figures, and the row has {len(names)} "
                f"columns: {'; '.join(names)}"
            )
        for label, text in zip(names, given, strict=True):
            found[row_label, label] = (
                None if text in NO_FIGURE else _number(text, f"{where}, paper, {row_label}")
            )
    return found


def _seeds(description: Description, where: str) -> tuple[int, ...]:
    seeds = description.get("seeds", ["42"])
    seeds = seeds if isinstance(seeds, list) else [seeds]
    numbers = tuple(int(seed) for seed in seeds if isinstance(seed, str) and seed.isdecimal())
    if not seeds or len(numbers) < len(seeds) or len(set(numbers)) < len(numbers):
        raise UserError(f"{where}, seeds: {seeds}; write different whole numbers, as in [0, 1, 2]")
    return numbers


def _number(text: Any, where: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        raise UserError(f"{where}: {text!r} is no number; write ~ where there is none") from None


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where} takes a text, not {json.dumps(value)}")
    return " ".join(value.split())


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value == "":  # a key whose values are all commented out
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where} takes keys and values, not {json.dumps(value)}")
    return value


def _known(found: Iterable[str], keys: Iterable[str], where: str) -> None:
    for key in found:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            raise UserError(
                f"{where}: unknown key {key!r}; "
                + (f"did you mean {near[0]}?" if near else f"there are {', '.join(keys)}")
            )
