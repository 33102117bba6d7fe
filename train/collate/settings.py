"""Whether a run was made with the settings that its cell has now."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from train.cli import load_config
from train.config import HOW_IT_COMPUTES, TrainConfig
from train.grids.cells import Cell, Run

# Where a run is, how it is cut up and what it tells: its figures are the same, or as good as, with any other. World size, ZeRO stage and
# precision are told from what the run recorded; see agreement.py.
_FREE = (
    "name", "output_dir", "resume", "log.*", "checkpoint.*", "deepspeed.*", "data.directory", "data.workers", "data.max_bad_fraction",
    "run.micro_batch", "run.max_hours", "run.max_skipped_steps", "run.spike_sd", "eval.every", "eval.micro_batch",
    *(f"model.{key}" for key in HOW_IT_COMPUTES),
)  # fmt: skip
PROG = "python -m train.tables"
SHOWN = 4  # of the settings that differ


def expected(run: Run, extra: Mapping[str, str]) -> TrainConfig:
    """What the grid says this run is made with.

    Args:
        extra: overrides that the sweep was given besides, which win over the grid's.
    """
    config = _of_cell(run.cell, tuple(extra.items()))
    return replace(config, run=replace(config.run, seed=run.seed))


def differences(found: TrainConfig, wanted: TrainConfig) -> str:
    """The settings that decide a run's figures and differ, as `key is this, the grid says that`; empty where they agree."""
    was, should = dict(_flat(dataclasses.asdict(found))), dict(_flat(dataclasses.asdict(wanted)))
    keys = [key for key in should if was[key] != should[key] and not any(fnmatchcase(key, free) for free in _FREE)]
    told = [f"{key} is {_text(was[key])}, the grid says {_text(should[key])}" for key in keys[:SHOWN]]
    return "; ".join(told + ([f"and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else []))


def read_config(folder: Path) -> TrainConfig:
    """The resolved settings of a run; raises UserError where they cannot be read."""
    return load_config(["--config", str(folder / "config.yaml")], prog=PROG)


@cache
def _of_cell(cell: Cell, extra: tuple[tuple[str, str], ...]) -> TrainConfig:
    return load_config(Run(cell, 0, Path("runs")).arguments(dict(extra)), prog=PROG)


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
