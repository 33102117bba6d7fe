"""Writes a table for programs: a line a run, a line a cell, and all of it as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from alphadecay.inspect.run.metrics import finite_or_none
from alphadecay.inspect.run.versions import PACKAGES
from train.experiments.tables.aggregate import Entry, Figures
from train.experiments.tables.collect import Absent, Record
from train.experiments.tables.lr_sensitivity import Sensitivity
from train.experiments.tables.statistics import CONFIDENCE
from train.experiments.tables.table import Table

FROM_SUMMARY = (
    "steps",
    "tokens",
    "precision",
    "device",
    "world_size",
    "engine",
    "zero_stage",
    "engine_shard",
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
    "figure",
    "value",
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
    """Write a line for every run of the grid, counted or not, nothing rounded.

    A run that is not counted has no figures.
    """
    return _csv(RUN_COLUMNS, run_lines(table))


def cells_csv(table: Table) -> str:
    """Write a line for every cell of the grid, nothing rounded."""
    lines = [{**line, "seeds": " ".join(map(str, line["seeds"]))} for line in cell_lines(table)]
    return _csv(CELL_COLUMNS, lines)


def as_json(table: Table) -> str:
    """Write everything: the grid, its cells, its runs and the caption."""
    grid = table.grid
    caption = table.caption
    departures = None
    if caption.departures is not None:
        departures = [asdict(departure) for departure in caption.departures]
    content = {
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
        "lr_sensitivity": [_sensitivity(each) for each in table.sensitivities],
        "differs_from_paper": departures,
        "made": dict(caption.made),
        "disagreements": caption.disagreements,
        "seeds_not_asked_for": table.strangers,
    }
    text = json.dumps(finite_or_none(content), indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n"


def run_lines(table: Table) -> list[Line]:
    """Return a line a run, in the order of the grid's."""
    places = {cell.key: place for place, cell in enumerate(table.grid.cells)}
    runs: list[Record | Absent] = [*table.collected.records, *table.collected.absent]
    runs.sort(key=lambda run: (places[run.run.cell.key], run.run.seed))
    return [_run(run) for run in runs]


def cell_lines(table: Table) -> list[Line]:
    """Return a line a cell, in the order of the grid's."""
    return [_cell(entry) for entry in table.entries]


def _run(outcome: Record | Absent) -> Line:
    run = outcome.run
    line: Line = dict.fromkeys(RUN_COLUMNS) | {
        "column": run.cell.column,
        "row": run.cell.row,
        "cell": run.cell.key,
        "seed": run.seed,
        "folder": str(run.folder),
    }
    if isinstance(outcome, Absent):
        return line | {"status": outcome.why, "detail": outcome.detail}
    summary = outcome.summary
    versions = summary.get("versions") or {}
    return line | {
        "status": "counted",
        "figure": outcome.figure.name,
        "value": outcome.value,
        "perplexity_published": outcome.published,
        "validation_tokens": summary.get("val_tokens"),
        "tokenizer_sha256": outcome.tokenizer,
        **{key: summary.get(key) for key in FROM_SUMMARY},
        **{name: versions.get(name) for name in VERSIONS},
    }


def _cell(entry: Entry) -> Line:
    cell = entry.cell
    return {
        "column": cell.column,
        "row": cell.row,
        "cell": cell.key,
        "planned": entry.planned,
        "seeds": entry.seeds,
        "best": entry.best,
        **_figures("", entry.unbiased),
        **_figures("published_", entry.published),
        "paper": cell.paper,
        "published_minus_paper": entry.over_paper,
    }


def _sensitivity(found: Sensitivity) -> Line:
    return {
        "row": found.row,
        "group": found.group,
        "loss_at_start": found.start,
        "sensitivity": found.values,
        "losses": found.losses,
    }


def _figures(prefix: str, figures: Figures) -> Line:
    spread = figures.spread
    difference = figures.difference
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
