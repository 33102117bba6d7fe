"""Notes below a table: how its runs were made, what differs from the paper, and what differs among
the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType

from alphadecay.inspect.run.words import engine_words
from train.config import TaskName
from train.experiments.grids.cells import Cell, Grid
from train.experiments.tables import paper_glue, paper_reference, paper_vit
from train.experiments.tables.collect import Record
from train.experiments.tables.paper_reference import PAPER, Point

OUTLIERS = 3  # runs named one by one
# What the paper's set-up of a task is compared in.
_POINTS: Mapping[TaskName, Callable[[Record], Iterable[Point]]] = MappingProxyType(
    {
        "language_modelling": paper_reference.points,
        "image_classification": paper_vit.points,
        "text_classification": paper_glue.points,
        "text_regression": paper_glue.points,
        "modular_arithmetic": lambda record: (),  # the paper has none of it
    }
)


@dataclass(frozen=True)
class Departure:
    """Something that differs from the paper's set-up.

    Args:
        what: its name.
        here: what the runs have, by column where columns differ.
        paper: what the paper has, likewise.
    """

    what: str
    here: str
    paper: str


@dataclass(frozen=True)
class Caption:
    """All that stands below a table.

    Args:
        departures: from the paper's set-up; None for a grid that is not the paper's.
        made: how the runs were made: (name, words).
        disagreements: what runs of one column do not have in common, a sentence each.
    """

    departures: tuple[Departure, ...] | None
    made: tuple[tuple[str, str], ...]
    disagreements: tuple[str, ...]


def caption(grid: Grid, records: Sequence[Record]) -> Caption:
    """Say everything there is to say, from what the runs recorded."""
    told = [
        (record.run.cell, point)
        for record in records
        for point in [*_POINTS[record.config.task](record), seeds_of(record, records)]
    ]
    departures = []
    made = []
    for name in dict.fromkeys(point.what for _, point in told):
        mine = [(cell, point) for cell, point in told if point.what == name]
        others = [(cell, point) for cell, point in mine if not point.same]
        cells = frozenset(cell for cell, _ in mine)
        made.append((name, _in_words(grid, cells, [(cell, point.here) for cell, point in mine])))
        if others:
            here = _in_words(grid, cells, [(cell, point.here) for cell, point in others])
            theirs = _in_words(
                grid,
                frozenset(cell for cell, _ in others),
                [(cell, point.paper) for cell, point in others],
            )
            departures.append(Departure(name, here, theirs))
    cells = frozenset(record.run.cell for record in records)
    made += [
        (name, _in_words(grid, cells, [(record.run.cell, fact(record)) for record in records]))
        for name, fact in _MACHINE
    ]
    return Caption(
        tuple(departures) if PAPER in grid.source else None,
        tuple(made),
        disagreements(grid, records),
    )


def seeds_of(record: Record, records: Sequence[Record]) -> Point:
    """Compare the seeds of the record's column, and what they change."""
    column = [r for r in records if r.run.cell.column == record.run.cell.column]
    seeds = sorted({r.run.seed for r in column})
    inits = {r.config.run.seed_of_init for r in column}
    orders = {r.config.run.seed_of_data for r in column}
    changed = [
        what
        for what, drawn in (("the initialisation", inits), ("the order of the data", orders))
        if len(drawn) > 1
    ]
    changes = f", which change {' and '.join(changed)}" if changed else ""
    here = f"{', '.join(map(str, seeds))}{changes}"
    paper = (
        "one figure a cell, but six seeds in one table; they change the initialisation, data in "
        "the order of seed 42 (published code)"
    )
    return Point("seeds", here, paper, len(seeds) in (1, 6) and orders == {42})


def disagreements(grid: Grid, records: Sequence[Record]) -> tuple[str, ...]:
    """Tell where runs of one column differ in what should be the same.

    An example: "60M: precision: bfloat16 in 5 runs, float32 in AWD seed 1".
    """
    sentences = []
    for column in grid.columns:
        mine = [record for record in records if record.run.cell.column == column]
        for name, fact in _COMMON:
            values: dict[str, list[Record]] = {}
            for record in mine:
                values.setdefault(fact(record), []).append(record)
            if len(values) > 1:
                sentences.append(f"{column}: {name}: {_shares(values)}")
        sentences += [f"{column}: tokens: {_shares(values)}" for values in _tokens(mine)]
    return tuple(sentences)


def _tokens(records: Sequence[Record]) -> Iterable[dict[str, list[Record]]]:
    """Find groups of runs that should have seen as many tokens as each other and have not.

    Packed rows have no fill, so that every run should; the fill of padded rows goes with the order
    of the data.
    """
    groups: dict[int, dict[str, list[Record]]] = {}
    for record in records:
        order = record.config.run.seed_of_data if record.config.data.rows == "padded" else -1
        tokens = f"{record.summary.get('tokens') or 0:,}"
        groups.setdefault(order, {}).setdefault(tokens, []).append(record)
    return [values for values in groups.values() if len(values) > 1]


def _shares(values: dict[str, list[Record]]) -> str:
    ordered = sorted(values.items(), key=lambda item: -len(item[1]))
    parts = []
    for place, (value, records) in enumerate(ordered):
        runs = f"{len(records)} run{'s' * (len(records) > 1)}"
        if place and len(records) <= OUTLIERS:
            runs = ", ".join(f"{r.run.cell.row} seed {r.run.seed}" for r in records)
        parts.append(f"{value} in {runs}")
    return ", ".join(parts)


def _in_words(grid: Grid, cells: Set[Cell], values: Iterable[tuple[Cell, str]]) -> str:
    """Put what cells have into words.

    It is "x"; "60M: x; 135M: y" where columns differ; "x (AWD, AlphaDecay)" where only some rows
    have it.

    Args:
        cells: all that could have a value; some may have none.
        values: one a run.
    """
    rows_by_text: dict[str, dict[str, set[str]]] = {}  # by column, by text, rows
    for cell, text in values:
        rows_by_text.setdefault(cell.column, {}).setdefault(text, set()).add(cell.row)
    by_text: dict[str, list[str]] = {}
    for column in (column for column in grid.columns if column in rows_by_text):
        rows = {cell.row for cell in cells if cell.column == column}
        parts = [
            text + ("" if some == rows else f" ({_rows(grid, some)})")
            for text, some in rows_by_text[column].items()
        ]
        by_text.setdefault(", ".join(parts), []).append(column)
    every = [column for column in grid.columns if column in {cell.column for cell in cells}]
    if len(by_text) == 1 and rows_by_text.keys() == set(every):
        return next(iter(by_text))
    return "; ".join(f"{_columns(names, every)}: {text}" for text, names in by_text.items())


def _rows(grid: Grid, rows: Set[str]) -> str:
    return ", ".join(row for row in grid.rows if row in rows)


def _columns(names: Sequence[str], every: Sequence[str]) -> str:
    """Write labels in a line; "60M" for all that begin with "60M, "."""
    shorter: dict[str, None] = {}
    for name in names:
        first = name.partition(", ")[0]
        alike = [column for column in every if column.partition(", ")[0] == first]
        shorter[first if len(alike) > 1 and set(alike) <= set(names) else name] = None
    return " and ".join(shorter)


def _ranks(record: Record) -> str:
    s = record.summary
    return f"{s.get('world_size')} on {s.get('device')}, {_engine(record)}"


def _engine(record: Record) -> str:
    known = {"engine_shard": record.config.engine.shard, **record.summary}
    return engine_words(known) or "engine not recorded"


def _versions(record: Record) -> str:
    versions = record.summary.get("versions") or {}
    return (
        ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        or "not recorded"
    )


def _commit(record: Record) -> str:
    return str(record.summary.get("commit") or "not recorded")


Fact = Callable[[Record], str]
_MACHINE: tuple[tuple[str, Fact], ...] = (
    ("ranks", _ranks),
    ("versions", _versions),
    ("commit", _commit),
)
# What runs of one column should have in common besides their tokens: the settings that the grid
# varies by row are not among it.
_COMMON: tuple[tuple[str, Fact], ...] = (
    ("precision", lambda r: str(r.summary.get("precision"))),
    ("world size", lambda r: str(r.summary.get("world_size"))),
    ("engine", _engine),
    ("device", lambda r: str(r.summary.get("device"))),
    ("data", lambda r: str(r.summary.get("data"))),
    ("tokenizer", lambda r: str(r.tokenizer)[:12]),
    ("validation tokens", lambda r: str(r.summary.get("val_tokens"))),
    ("versions", _versions),
    ("sources", lambda r: str(r.summary.get("sources"))),
)
