"""Modular arithmetic before a model is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alphadecay.inspect.run.metrics import FigureOfMerit
from train.config import TrainConfig
from train.errors import Problems
from train.tasks.modular_arithmetic.pairs import split_pairs

if TYPE_CHECKING:
    from train.cluster.distributed import World
    from train.tasks.modular_arithmetic.task import ModularArithmetic
    from train.tasks.task import DataPlan, Interruptible

ACCURACY = FigureOfMerit("val_accuracy", "accuracy, %", "higher")


def figure_of(config: TrainConfig) -> FigureOfMerit:
    """Return the figure of merit."""
    return ACCURACY


def open_task(config: TrainConfig, world: World, interruptible: Interruptible) -> ModularArithmetic:
    """Write out all pairs; nothing is prepared."""
    from train.tasks.modular_arithmetic.task import ModularArithmetic

    return ModularArithmetic(config, world)


def prepare(config: TrainConfig) -> list[Path]:
    """Prepare nothing: a run writes out the pairs by itself."""
    return []


def rows_ready(config: TrainConfig) -> int:
    """Return how many pairs there are to train on: they are always ready."""
    return len(split_pairs(config).training.answers)


def plan_data(config: TrainConfig, problems: Problems) -> DataPlan:
    """Return what a dry run says of the pairs."""
    from train.tasks.task import DataPlan

    pairs = split_pairs(config)
    count = len(pairs.training.answers)
    rows = config.run.steps * config.run.global_batch
    lines = (
        f"Pairs {rows:,}: {config.run.steps:,} steps of {config.run.global_batch} rows of 3 tokens",
        f"  {pairs.formula}: {count:,} pairs to train on, {rows / count:,.1f} epochs; "
        f"{len(pairs.held_out.answers):,} held out",
    )
    return DataPlan(lines, pairs.identity, lambda saved: saved == pairs.identity)
