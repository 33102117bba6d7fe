"""A step between refreshes, ours ÷ stock AdamW's, by the arms of tests/bench/step.py, one rank."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from tests.bench.common import rotated, spread
from tests.bench.step import CLOCKS, TOY, Arm, Size, build, ratio, timed
from tests.gpu.cases import Case, Figures, Session
from tests.gpu.engines import release
from tests.gpu.recipes import model_of
from train.engines.deepspeed_workarounds import without_memory_reports

# Model, ZeRO stage, arms, repeats, seconds. A group per module takes ten times as long.
_ALL = ("alphadecay", "stock", "stock_again", "per_module")
SPECS = (
    ("60m", 1, _ALL, 20, 8.0),
    ("60m", 3, _ALL, 20, 10.0),
    ("350m", 1, _ALL[:3], 12, 15.0),
)
ROWS = 2
LENGTH = 256
WARM_UP = 3


def cases() -> Iterator[Case]:
    """Yield a case for each model and stage."""
    for model, stage, arms, repeats, seconds in SPECS:
        yield Case(
            "steps",
            f"{model}, ZeRO-{stage}",
            seconds,
            lambda session, spec=(model, stage, arms, repeats): measure(session, *spec),
        )


def measure(
    session: Session, model: str, stage: int, names: tuple[str, ...], repeats: int
) -> Figures:
    """Time the arms in turn; figures are medians over the repeats."""
    size = Size(TOY, ROWS, 32, 1.0) if session.toy else Size(model_of(model), ROWS, LENGTH, 1.0)
    repeats = 2 if session.toy else repeats
    generator = torch.Generator().manual_seed(0)
    shape = (size.rows, size.length)
    batch = torch.randint(0, size.model.vocab_size, shape, generator=generator).to(session.device)
    dtype = "bfloat16" if session.cuda else "float32"
    with _arms(names, size, stage, dtype) as arms:
        times: dict[str, Any] = {name: {clock: [] for clock in CLOCKS} for name in names}
        gc.disable()
        try:
            for repeat in range(-WARM_UP, repeats):
                for name in rotated(names, repeat):
                    seconds = timed(arms[name], batch)
                    for clock in CLOCKS if repeat >= 0 else ():
                        times[name][clock].append(seconds[clock])
        finally:
            gc.enable()
        syncs = {name: host_syncs(arms[name], batch) for name in ("alphadecay", "stock")}
    stock = times["stock"]
    figures: Figures = {"host_syncs": syncs, "milliseconds": {}, "over_stock": {}}
    for name in names:
        figures["milliseconds"][name] = 1e3 * median(times[name]["engine_step"])
        figures["over_stock"][name] = {
            clock: ratio(times[name][clock], stock[clock]) for clock in CLOCKS
        }
    figures["ours_over_stock"] = figures["over_stock"]["alphadecay"]["engine_step"]["median"]
    figures["second_stock"] = figures["over_stock"]["stock_again"]["engine_step"]["median"]
    figures["whole_step"] = spread(times["alphadecay"]["step"])["median"]
    return figures


@contextmanager
def _arms(names: tuple[str, ...], size: Size, stage: int, dtype: str) -> Iterator[dict[str, Arm]]:
    arms: dict[str, Arm] = {}
    try:
        with without_memory_reports():
            for name in names:
                arms[name] = build(name, size, stage, fused=True, dtype=dtype)
        yield arms
    finally:
        for arm in arms.values():
            release(arm.engine)
        arms.clear()


def host_syncs(arm: Arm, batch: torch.Tensor) -> int:
    """Count how often a step makes the host wait for the GPU; 0 without one."""
    arm.forward_backward(batch)
    if batch.device.type != "cuda":
        arm.step()
        return 0
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            arm.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)
