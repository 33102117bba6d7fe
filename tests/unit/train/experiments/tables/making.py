"""Grids and run folders made by hand, as a sweep would have left them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.conftest import ROOT
from train.config import TrainConfig
from train.config.command_line import dump_config
from train.experiments.grids.registry import Cell, Grid, Run
from train.experiments.grids.resolved_run import plan
from train.loop.run_status import write_state

RECIPES = ROOT / "train" / "recipes"
METHODS = {"Uniform": "uniform", "AWD": "awd", "AlphaDecay": "alphadecay"}
VERSIONS = {
    "python": "3.11.7",
    "torch": "2.13.0",
    "deepspeed": "0.19.8",
    "transformers": "5.23.0",
    "alphadecay": "0.1.0",
}


def make_grid(
    columns: Mapping[str, Mapping[str, str]],
    rows: Sequence[str] = ("Uniform", "AlphaDecay"),
    seeds: Sequence[int] = (1, 2, 3),
    paper: Mapping[tuple[str, str], float] | None = None,
    source: str = "",
    recipe: str = "quickstart",
    setup: str = "",
) -> Grid:
    """A grid of methods by columns; a column's overrides are its value."""
    cells = []
    for row, (column, overrides) in itertools.product(rows, columns.items()):
        key = f"{column}-{row}".lower().replace(" ", "-").replace(",", "")
        chosen = {**overrides, "decay.method": METHODS[row]}
        cells.append(
            Cell(
                "toy",
                row,
                column,
                RECIPES / f"{recipe}.yaml",
                chosen,
                (paper or {}).get((row, column)),
                key,
            )
        )
    return Grid(
        "toy",
        "A toy",
        source,
        setup,
        tuple(rows),
        tuple(columns),
        "Uniform",
        tuple(cells),
        tuple(seeds),
    )


def runs_of(grid: Grid, root: Path, row: str, column: str) -> dict[int, Run]:
    """Return the runs of a cell by seed."""
    return {
        run.seed: run for run in grid.runs(root) if (run.cell.row, run.cell.column) == (row, column)
    }


def finish(
    run: Run,
    perplexity: float | None,
    published: float | None = None,
    overrides: Mapping[str, str] = MappingProxyType({}),
    **facts: Any,
) -> TrainConfig:
    """Leaves what a finished run leaves. Facts are of summary.json.

    Args:
        overrides: on top of what the grid says.
    """
    config = plan(run, overrides).config
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "config.yaml").write_text(dump_config(config))
    (run.folder / "tokenizer.model").write_bytes(facts.pop("tokenizer", b"a model"))
    summary = {
        "world_size": 2,
        "zero_stage": 3,
        "device": "cpu",
        "precision": "float32",
        "method": config.decay.method,
        "steps": config.run.steps,
        "tokens": config.run.steps * config.run.global_batch * config.data.sequence_length,
        "data": "abc packed",
        "commit": "0123456789",
        "sources": "fedcba9876",
        "seconds_training": 1.5,
        "versions": VERSIONS,
        "val_perplexity": perplexity,
        "val_perplexity_published": published,
        "val_tokens": 16_256,
        **facts,
    }
    (run.folder / "summary.json").write_text(json.dumps(summary))
    write_state(run.folder, "finished", step=config.run.steps, steps=config.run.steps)
    return config


def fill(
    grid: Grid,
    root: Path,
    figures: Mapping[tuple[str, str], Mapping[int, tuple[float, float]]],
    **facts: Any,
) -> None:
    """Finished runs: (row, column) -> seed -> (perplexity, as published)."""
    for (row, column), by_seed in figures.items():
        runs = runs_of(grid, root, row, column)
        for seed, (perplexity, published) in by_seed.items():
            finish(runs[seed], perplexity, published, **facts)
