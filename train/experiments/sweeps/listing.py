"""Lists grids and their runs as tables: what they cost, and how they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alphadecay.inspect.plan.known_peaks import ASSUMED_MFU, PEAK_BF16
from alphadecay.inspect.run.words import number
from train.config import TrainConfig
from train.experiments.grids.cells import Grid
from train.experiments.grids.resolved_run import Planned
from train.experiments.sweeps.sweep_status import (
    Queue,
    RunStatus,
    count,
    differences,
    outcome,
    run_status,
)
from train.models import spec_of

GPU = "H100"


@dataclass(frozen=True)
class Speed:
    """The speed of training that GPU hours are reckoned with.

    Args:
        tflops: peak of one GPU, 1e12 FLOP/s.
        mfu: the share of it that training reaches.
        source: where the peak comes from.
    """

    tflops: float = PEAK_BF16[GPU]
    mfu: float = ASSUMED_MFU
    source: str = f"{GPU}, dense bf16, data sheet"

    def hours(self, config: TrainConfig) -> float:
        """Return the GPU hours of the training steps; validation and refreshes come on top."""
        spec = spec_of(config.model)
        per_token = spec.flops_per_token(config.model, config.positions)
        flops = per_token * tokens(config)
        return flops / (self.tflops * 1e12 * self.mfu) / 3600

    def __str__(self) -> str:
        return f"{self.mfu:.0%} of {self.tflops:,.4g} TFLOP/s a GPU ({self.source})"


def tokens(config: TrainConfig) -> int:
    """Return the tokens of all steps, padding included."""
    return config.positions_of_run


def list_grids(grids: Sequence[tuple[Grid, Sequence[Planned]]], speed: Speed) -> Iterator[str]:
    """Yield a table of grids and their runs, a line each."""
    rows = []
    for grid, runs in grids:
        hours = sum(speed.hours(planned.config) for planned in runs)
        rows.append((grid.name, str(len(grid.cells)), str(len(runs)), _hours(hours), grid.title))
    yield from table(("grid", "cells", "runs", "GPU hours", "title"), rows, right=(1, 2, 3))
    yield _reckoned(speed)


def list_runs(grid: Grid, runs: Sequence[Planned], speed: Speed, queue: Queue) -> Iterator[str]:
    """Yield what each run of a grid costs and how it stands, and the sums."""
    source = f" ({grid.source})" if grid.source else ""
    yield f"{grid.name}: {grid.title}{source}"
    rows = []
    statuses = []
    for planned in runs:
        config = planned.config
        now = run_status(planned.run.folder, queue)
        statuses.append(now)
        cost = (f"{config.run.steps:,}", number(tokens(config)), _hours(speed.hours(config)))
        cell = planned.run.cell
        rows.append((cell.row, cell.column, str(planned.run.seed), *cost, _state(planned, now)))
    head = ("row", "column", "seed", "steps", "tokens", "GPU hours", "state")
    yield from table(head, rows, right=(2, 3, 4, 5))
    all_tokens = number(sum(tokens(planned.config) for planned in runs))
    hours = _hours(sum(speed.hours(planned.config) for planned in runs))
    yield f"{count(statuses)}; {all_tokens} tokens, {hours} GPU hours"
    yield _reckoned(speed)


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> Iterator[str]:
    """Yield lines with their columns one below the other.

    Args:
        right: numbers of the columns that end in line instead of beginning so.
    """
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    for row in (head, *rows):
        cells = (
            text.rjust(width) if at in right else text.ljust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _state(planned: Planned, now: RunStatus) -> str:
    changed = differences(planned)
    other = f"; with other settings: {'; '.join(changed)}" if changed else ""
    if now.state == "finished":
        found = outcome(planned.run.folder)
        return f"finished{', ' if found else ''}{found}{other}"
    at = f" at step {now.step:,}" if now.step or now.state in ("running", "stopped") else ""
    reason = f": {now.reason}" if now.reason else ""
    return f"{now.state}{at}{reason}{other}"


def _reckoned(speed: Speed) -> str:
    return f"GPU hours: training steps alone, at {speed}; --gpu-tflops and --mfu take others"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"
