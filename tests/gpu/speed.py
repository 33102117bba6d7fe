"""Tokens per second, MFU and memory of the program at the recipes' defaults, and without each.

The program's own loop runs, built as train/pretrain.py builds it; what its defaults resolve to on
this device is among the figures.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from alphadecay import AlphaDecay
from alphadecay.inspect.run.parts import training_seconds
from tests.bench.corpus import prepare_rows
from tests.gpu.cases import Case, Figures, Session
from tests.gpu.engines import release
from tests.gpu.recipes import arguments, configuration
from train.config import TrainConfig
from train.config.key_registry import known_keys
from train.config.run_folder import METRICS
from train.errors import Problems
from train.loop.build import build
from train.loop.trainer import Trainer
from train.planning.auto import choose_here
from train.planning.device import device_here
from train.planning.size_plan import plan_sizes
from train.system.out_of_memory import is_out_of_memory
from train.telemetry.metrics import read_metrics

PAPERS_INTERVAL = 500
RETRIES = 3  # smaller sizes after one that ran out of memory, as the program does


@dataclass(frozen=True)
class Length:
    """How long a recipe is run.

    Args:
        steps: in all.
        every: steps of a window; a figure is the median of the windows after the first two.
        seconds: that it takes about, the compiling included.
    """

    steps: int
    every: int
    seconds: float


LENGTHS = {"60m": Length(30, 5, 15.0), "350m": Length(12, 2, 25.0), "1b": Length(8, 2, 40.0)}
# What is turned off -> keys and values. Leaf layers are ZeRO-3's.
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "ZeRO-3": {"deepspeed.config": "zero3"},
    "compile": {"model.compile": "false"},
    "fused_cross_entropy": {"model.fused_cross_entropy": "false"},
    "fused AdamW": {"optim.fused": "false"},
    "ZeRO-3 without leaf layers": {"deepspeed.config": "zero3", "deepspeed.leaf_layers": "false"},
    "read_ahead": {"data.read_ahead": 0},
    "micro batch of 16 rows": {"run.micro_batch": 16},
}


def cases() -> Iterator[Case]:
    """Yield the corpus, then a case for each recipe and method."""
    yield Case("speed", "corpus", 20.0, prepare)
    for size, length in LENGTHS.items():
        for method in ("alphadecay", "uniform"):
            yield Case(
                "speed",
                f"{size} {method}",
                length.seconds,
                lambda session, size=size, method=method: measure(
                    size, session, {"decay.method": method}
                ),
            )


def engines() -> Iterator[Case]:
    """Yield a case for each recipe on the other engine; DeepSpeed's are those of `cases`."""
    for size, length in LENGTHS.items():
        yield Case(
            "engines",
            f"{size} fsdp2",
            length.seconds,
            lambda session, size=size: measure(size, session, {"engine.kind": "fsdp2"}),
        )


def ablations(size: str) -> Iterator[Case]:
    """Yield a case for each default that is turned off alone."""
    for name, changes in ABLATIONS.items():
        yield Case(
            "ablations",
            f"{size} {name}",
            LENGTHS[size].seconds,
            lambda session, changes=changes: measure(size, session, changes),
        )


def prepare(session: Session) -> Figures:
    """Prepare the rows that all recipes are trained on."""
    prepare_rows(arguments("60m", session, {}))
    return {}


def measure(size: str, session: Session, changes: Mapping[str, Any]) -> Figures:
    """Train a recipe for some steps, at the largest sizes that do not run out of memory."""
    unknown = [key for key in changes if key not in known_keys()]
    if unknown:
        return {"left_out": f"there is no key {unknown[0]}"}
    length = LENGTHS[size] if not session.toy else Length(6, 1, 0.0)
    with tempfile.TemporaryDirectory(dir=session.folder) as folder:
        values = {"run.steps": length.steps, "log.every": length.every, "output_dir": folder}
        config = configuration(size, session, values | dict(changes))
        for failures in range(RETRIES + 1):
            try:
                return _measured(config, length, session, failures) | {"retries": failures}
            except Exception as error:
                if failures == RETRIES or not is_out_of_memory(error):
                    raise
            gc.collect()
            torch.cuda.empty_cache()
    raise AssertionError("the last failure is raised")


def _measured(config: TrainConfig, length: Length, session: Session, failures: int) -> Figures:
    choice = choose_here(config, session.world, failures)
    config = choice.config if choice is not None else config
    started = session.now()
    with _trainer(config, session) as trainer:
        built = session.now() - started
        if session.cuda:
            torch.cuda.reset_peak_memory_stats(session.device)
        started = session.now()
        trainer._one_step(1)
        first = session.now() - started
        for step in range(2, length.steps + 1):
            trainer._one_step(step)
        figures = {
            "engine": trainer.engine.layout["engine"],
            "zero_stage": trainer.engine.layout.get("zero_stage"),
            "micro_batch": config.run.micro_batch,
            "build_seconds": built,
            "first_step_seconds": first,
            **_speed(trainer, length),
            **_memory(config, session),
            **_refresh(trainer, session),
            "auto": choice.line if choice is not None else "",
        }
    if "refresh_seconds" in figures:
        whole = PAPERS_INTERVAL * figures["step_seconds"] + figures["refresh_seconds"]
        figures["refresh_share"] = figures["refresh_seconds"] / whole
    return figures


@contextmanager
def _trainer(config: TrainConfig, session: Session) -> Iterator[Trainer]:
    trainer = build(config, session.world)
    try:
        yield trainer
    finally:
        trainer.telemetry.close()
        release(trainer.engine.handle)


def _speed(trainer: Trainer, length: Length) -> Figures:
    lines = read_metrics(Path(trainer.folder) / METRICS, "train")
    windows = [line for line in lines if line["step"] > 2 * length.every]
    summary = trainer.telemetry.summary()
    return {
        "tokens_per_second": median(line["tokens_per_second"] for line in windows),
        "mfu": median(line["mfu"] for line in windows),
        "step_seconds": median(training_seconds(line["seconds"]) for line in windows)
        / length.every,
        "parts_of_last": windows[-1]["seconds"],
        "loss": windows[-1]["loss"],
        "peak_tflops": summary["peak_tflops"],
        "peak_source": summary["peak_source"],
    }


def _memory(config: TrainConfig, session: Session) -> Figures:
    """Return the bytes that were most in steps, and what the dry run says of them."""
    planned = plan_sizes(config, 1, device_here(1), Problems()).memory
    figures = {"memory_predicted": float(planned.in_steps) if planned is not None else None}
    if session.cuda:
        figures["memory_allocated"] = float(torch.cuda.max_memory_allocated(session.device))
        figures["memory_reserved"] = float(torch.cuda.max_memory_reserved(session.device))
    return figures


def _refresh(trainer: Trainer, session: Session) -> Figures:
    if not isinstance(trainer.decay, AlphaDecay):
        return {}
    first = trainer.decay.last_refresh_seconds  # at the construction: libraries set themselves up
    started = session.now()
    trainer.decay.refresh()
    return {"refresh_seconds": session.now() - started, "first_refresh_seconds": first}
