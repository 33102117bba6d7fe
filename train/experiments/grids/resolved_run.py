"""Resolves a run of a grid: its arguments, and the configuration that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from train.config import TrainConfig
from train.config.command_line import load_config
from train.config.key_registry import COMMAND_LINE
from train.errors import UserError
from train.experiments.grids.cells import Cell, Run


@dataclass(frozen=True)
class Planned:
    """A run of a grid and what it trains.

    Args:
        run: of a grid.
        arguments: for train/pretrain.py.
        config: what they make.
    """

    run: Run
    arguments: tuple[str, ...]
    config: TrainConfig


def plan(run: Run, extra: Mapping[str, str]) -> Planned:
    """Resolve a run with overrides that win over its own.

    Raises:
        UserError: train/pretrain.py would refuse them.
    """
    config = config_of(run.cell, extra)
    config = replace(
        config, name=run.name, output_dir=str(run.folder), run=replace(config.run, seed=run.seed)
    )
    return Planned(run, tuple(run.arguments(extra)), config)


def config_of(cell: Cell, extra: Mapping[str, str] | None = None) -> TrainConfig:
    """Return what a cell trains, whatever the seed.

    Raises:
        UserError: train/pretrain.py would refuse it; the message names the cell.
    """
    try:
        # The grid itself was read without extras, so that with them it is they that do not fit.
        return _read(tuple(cell.arguments(extra)), COMMAND_LINE if extra else "in the grid")
    except UserError as error:
        raise UserError(f"{cell.grid}, {cell.row} at {cell.column}: {error}") from error


@cache  # the seeds of a cell differ in what `plan` puts in alone, and reading takes about 20 ms
def _read(arguments: tuple[str, ...], where: str) -> TrainConfig:
    return load_config(arguments, where)
