"""A table for programs: a line a run, a line a cell, and all of it as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from train.experiments.tables.aggregate import Entry, Figures
from train.experiments.tables.collect import Absent, Record
from train.experiments.tables.statistics import CONFIDENCE
from train.experiments.tables.table import Table
from train.system.provenance import PACKAGES
from train.telemetry.metrics import finite_or_none

FROM_SUMMARY = (
    "steps",
    "tokens",
    "precision",
    "device",
    "world_size",
    "zero_stage",
    "method",
    "data",
    "commit",
    "sources",
    "seconds_training",
    "cumulative_decay_mean",
)
VERSIONS = ("python", *PACKAGES)
RUN_COLUMNS = (
    "column",
    "row",
    "cell",
    "seed",
    "status",
    "detail",
    "perplexity",
    "perplexity_published",
    "validation_tokens",
    *FROM_SUMMARY,
    "tokenizer_sha256",
    *VERSIONS,
    "folder",
)
CELL_COLUMNS = (
    "column",
    "row",
    "cell",
    "planned",
    "seeds",
    "best",
    *(
        f"{prefix}{name}"
        for prefix in ("", "published_")
        for name in ("mean", "sd", "n", "difference", "low", "high", "pairs")
    ),
    "paper",
    "published_minus_paper",
)

Line = dict[str, Any]


def runs_csv(table: Table) -> str:
    """A line for every run of the grid, counted or not, nothing rounded; a run that is not counted
    has no figures.
    """
    return _csv(RUN_COLUMNS, run_lines(table))


def cells_csv(table: Table) -> str:
    """A line for every cell of the grid, nothing rounded."""
    return _csv(
        CELL_COLUMNS,
        [{**line, "seeds": " ".join(map(str, line["seeds"]))} for line in cell_lines(table)],
    )


def as_json(table: Table) -> str:
    """Everything: the grid, its cells, its runs and the caption."""
    grid = table.grid
    said = table.caption
    found = {
        "grid": grid.name,
        "title": grid.title,
        "source": grid.source,
        "setup": grid.setup,
        "baseline": grid.baseline,
        "rows": grid.rows,
        "columns": grid.columns,
        "seeds": grid.seeds,
        "overrides": dict(table.overrides),
        "confidence": CONFIDENCE,
        "cells": cell_lines(table),
        "runs": run_lines(table),
        "differs_from_paper": None
        if said.departures is None
        else [asdict(departure) for departure in said.departures],
        "made": dict(said.made),
        "disagreements": said.disagreements,
        "seeds_not_asked_for": table.strangers,
    }
    return json.dumps(finite_or_none(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def run_lines(table: Table) -> list[Line]:
    """A run each, in the order of the grid's."""
    places = {cell.key: at for at, cell in enumerate(table.grid.cells)}
    found: list[Record | Absent] = [*table.collected.records, *table.collected.absent]
    return [
        _run(entry) for entry in sorted(found, key=lambda f: (places[f.run.cell.key], f.run.seed))
    ]


def cell_lines(table: Table) -> list[Line]:
    """A cell each, in the order of the grid's."""
    return [_cell(entry) for entry in table.entries]


def _run(found: Record | Absent) -> Line:
    cell = found.run.cell
    line: Line = {
        "column": cell.column,
        "row": cell.row,
        "cell": cell.key,
        "seed": found.run.seed,
        "folder": str(found.run.folder),
    }
    if isinstance(found, Absent):
        return dict.fromkeys(RUN_COLUMNS) | line | {"status": found.why, "detail": found.detail}
    validated = found.summary.get("val_tokens")
    figures = {
        "perplexity": found.perplexity,
        "perplexity_published": found.published,
        "validation_tokens": validated,
    }
    versions = found.summary.get("versions") or {}
    rest = {key: found.summary.get(key) for key in FROM_SUMMARY} | {
        name: versions.get(name) for name in VERSIONS
    }
    line |= figures | rest | {"status": "counted", "tokenizer_sha256": found.tokenizer}
    return dict.fromkeys(RUN_COLUMNS) | line


def _cell(entry: Entry) -> Line:
    cell = entry.cell
    line: Line = {
        "column": cell.column,
        "row": cell.row,
        "cell": cell.key,
        "planned": entry.planned,
        "seeds": entry.seeds,
    }
    line |= {
        "best": entry.best,
        **_figures("", entry.unbiased),
        **_figures("published_", entry.published),
    }
    return line | {"paper": cell.paper, "published_minus_paper": entry.over_paper}


def _figures(prefix: str, found: Figures) -> Line:
    spread = found.spread
    difference = found.difference
    line: Line = {
        "mean": spread and spread.mean,
        "sd": spread and spread.sd,
        "n": spread.n if spread else 0,
        "difference": difference and difference.mean,
        "low": difference and difference.low,
        "high": difference and difference.high,
        "pairs": len(difference.seeds) if difference else 0,
    }
    return {prefix + name: value for name, value in line.items()}


def _csv(columns: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)  # floats as repr has them: read back, they are the same
    return text.getvalue()
