"""Compares what two runs wrote down, number by number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.integration.program import INTERVAL, STEPS, metrics

REFRESHES = list(range(0, STEPS + 1, INTERVAL))
BY_MODULE = ("alphas", "weight_decays", "cumulative_decay", "half_life_steps", "half_life_tokens")
OF_A_STEP = (
    "loss",
    "lr",
    "grad_norm",
    "tokens",
    "weight_norms",
    "cumulative_decay_mean",
)


def by_step(folder: Path, kind: str, *keys: str) -> dict[int, tuple[Any, ...]]:
    """Return the values of each step's record of one kind, in the order of `keys`."""
    return {record["step"]: tuple(record[key] for key in keys) for record in metrics(folder, kind)}


def assert_same_run(folder: Path, whole: Path) -> None:
    """Check that a run which was cut wrote the same numbers as one that was not, times apart."""
    assert [r["step"] for r in metrics(folder, "train")] == list(range(1, STEPS + 1))
    assert by_step(folder, "train", *OF_A_STEP) == by_step(whole, "train", *OF_A_STEP)
    for key in ("val_loss", "val_loss_published"):
        assert by_step(folder, "validation", key) == by_step(whole, "validation", key)
    assert [r["step"] for r in metrics(folder, "refresh")] == REFRESHES
    assert by_step(folder, "refresh", *BY_MODULE) == by_step(whole, "refresh", *BY_MODULE)
