"""How much the final loss of a method depends on the learning rate: LR sensitivity.

Over the learning rates of a grid it is the mean of min(ℓ, ℓ₀) − ℓ*, where ℓ is the loss at one of
them, ℓ* the least of all and ℓ₀ the loss before the first step, which also stands for a run that
diverged (arXiv 2309.14322, section 2.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.run.metrics import read_metrics
from train.config.run_folder import DIVERGED, METRICS
from train.experiments.grids.cells import Cell, Grid
from train.experiments.grids.resolved_run import config_of
from train.experiments.tables.collect import Absent, Collected, Record
from train.experiments.tables.statistics import Spread, spread_of

FEWEST = 3  # learning rates
_LOSS = "val_loss"
_KEY = "optim.lr"


@dataclass(frozen=True)
class Sensitivity:
    """One row of a grid over the learning rates of columns that differ in nothing else.

    Args:
        row: label.
        group: what the columns' labels have in common; may be empty.
        losses: seed -> learning rate -> final validation loss, nats; that before the first step
            where the run diverged. Only seeds that have all learning rates.
        start: loss before the first step, of the first run that says.
    """

    row: str
    group: str
    losses: Mapping[int, Mapping[float, float]]
    start: float

    @property
    def values(self) -> dict[int, float]:
        """LR sensitivity by seed."""
        return {
            seed: lr_sensitivity([*by_lr.values()], self.start)
            for seed, by_lr in self.losses.items()
        }

    @property
    def spread(self) -> Spread | None:
        """Over the seeds; None where none has all learning rates."""
        return spread_of([*self.values.values()])


def lr_sensitivity(losses: Sequence[float], start: float) -> float:
    """Return the mean of min(ℓ, ℓ₀) − ℓ* over the losses at several learning rates."""
    least = min(losses)
    return fmean(min(loss, start) - least for loss in losses)


def sensitivities(grid: Grid, collected: Collected) -> tuple[Sensitivity, ...]:
    """Return those that a grid has: a row's columns that differ in the learning rate alone."""
    every: list[Record | Absent] = [*collected.records, *collected.absent]
    outcomes = {(outcome.run.cell.key, outcome.run.seed): outcome for outcome in every}
    found = []
    for cells in _groups(grid):
        start = _loss_at_start(outcomes, cells, grid.seeds)
        if start is None:
            continue
        losses = {
            seed: by_lr
            for seed in grid.seeds
            if (by_lr := _losses(outcomes, cells, seed, start)) is not None
        }
        group = _common_label([cell.column for cell in cells.values()])
        row = next(iter(cells.values())).row
        found.append(Sensitivity(row, group, losses, start))
    return tuple(found)


def _groups(grid: Grid) -> Iterator[dict[float, Cell]]:
    """Yield cells by learning rate, of one row and alike in all else."""
    groups: dict[Any, dict[float, Cell]] = {}
    for cell in grid.cells:
        others = {key: text for key, text in cell.overrides.items() if key != _KEY}
        alike = (cell.row, str(cell.recipe), tuple(sorted(others.items())))
        groups.setdefault(alike, {})[config_of(cell).optim.lr] = cell
    yield from (cells for cells in groups.values() if len(cells) >= FEWEST)


def _losses(
    outcomes: Mapping[tuple[str, int], Record | Absent],
    cells: Mapping[float, Cell],
    seed: int,
    start: float,
) -> dict[float, float] | None:
    """Return a seed's loss by learning rate; None where a run is missing."""
    losses = {}
    for lr, cell in sorted(cells.items()):
        loss = _final_loss(outcomes[cell.key, seed], start)
        if loss is None:
            return None
        losses[lr] = loss
    return losses


def _final_loss(outcome: Record | Absent, start: float) -> float | None:
    if isinstance(outcome, Record):
        validations = _validations(outcome.run.folder)
        if not validations:
            return None
        loss = validations[-1][_LOSS]  # the summary has the figure of merit alone
        return start if loss is None or not math.isfinite(loss) else float(loss)
    diverged = outcome.why == "diverged" or (outcome.run.folder / DIVERGED).is_file()
    return start if diverged else None


def _loss_at_start(
    outcomes: Mapping[tuple[str, int], Record | Absent],
    cells: Mapping[float, Cell],
    seeds: Sequence[int],
) -> float | None:
    """Return the loss before the first step, which hardly depends on the seed."""
    for cell in cells.values():
        for seed in seeds:
            loss = _first_loss(outcomes[cell.key, seed].run.folder)
            if loss is not None:
                return loss
    return None


def _first_loss(folder: Path) -> float | None:
    at_start = [record for record in _validations(folder) if record.get("step") == 0]
    return float(at_start[0][_LOSS]) if at_start and at_start[0].get(_LOSS) else None


def _validations(folder: Path) -> list[Mapping[str, Any]]:
    """Return a run's records of a loss; none of a run that has not validated."""
    try:
        found = read_metrics(folder / METRICS, "validation")
    except (OSError, InspectError):
        return []
    return [record for record in found if _LOSS in record]


def _common_label(columns: Sequence[str]) -> str:
    """Return the parts of the labels that are in all of them: "60M" of "60M, 1e-3"."""
    parts = [column.split(", ") for column in columns]
    return ", ".join(part for part in parts[0] if all(part in other for other in parts))
