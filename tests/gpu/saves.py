"""What a save costs the training on this device: the wait, plain and asynchronous, and a step while
the files are written. One rank; the recipe's shapes.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch

from tests.bench.common import rotated
from tests.bench.save import ENGINES, KINDS, VOCABULARY, Loop
from tests.gpu.cases import Case, Figures, Session
from tests.gpu.engines import release
from train.config import TrainConfig
from train.config.command_line import load_config

REPEATS = {"60m": 2, "350m": 1}
SECONDS = {"60m": 25.0, "350m": 60.0}
ROWS = {"60m": 128, "350m": 64}  # of a step of one micro batch: it takes about a tenth of a second
_TOY = (
    "--model.hidden_size=32",
    "--model.intermediate_size=60",
    "--model.num_heads=2",
    f"--model.vocab_size={VOCABULARY}",
)


def cases() -> Iterator[Case]:
    """Yield a case for each size and engine."""
    for size, seconds in SECONDS.items():
        for engine in ENGINES:
            yield Case(
                "saves",
                f"{size} {engine}",
                seconds,
                lambda session, size=size, engine=engine: measure(size, engine, session),
            )


def measure(size: str, engine: str, session: Session) -> Figures:
    """Save in turns of both kinds, and take steps beside a save and without one."""
    with tempfile.TemporaryDirectory(dir=session.folder) as folder:
        loop = Loop(configuration(size, engine, session), session.world, Path(folder))
        try:
            return _measured(loop, REPEATS[size], session)
        finally:
            for saver in loop.savers.values():
                saver.close()
            release(loop.engine.handle)
            gc.collect()


def configuration(size: str, engine: str, session: Session) -> TrainConfig:
    """Return the recipe with a step of one micro batch."""
    rows = 2 if session.toy else ROWS[size]
    return load_config(
        [
            f"--config=llama_{size}",
            *(_TOY if session.toy else ()),
            *ENGINES[engine],
            f"--run.global_batch={rows}",
            f"--run.micro_batch={rows}",
            "--model.compile=false",  # a step without it, and no minute to compile
            "--model.activation_checkpointing=false",
        ]
    )


def _measured(loop: Loop, repeats: int, session: Session) -> Figures:
    stalls: dict[str, list[float]] = {kind: [] for kind in KINDS}
    beside: list[float] = []
    alone: list[float] = []
    for repeat in range(-1, repeats):  # the first makes moments, processes and memory
        loop.step()
        took = {kind: loop.save(kind) for kind in rotated(KINDS, repeat)}
        while_writing = loop.steps_beside()
        quiet = [loop.step() for _ in range(max(5, len(while_writing)))]
        if repeat >= 0:
            for kind, seconds in took.items():
                stalls[kind].append(seconds)
            beside += while_writing
            alone += quiet
    pairs = zip(stalls["plain"], stalls["asynchronous"], strict=True)
    return {
        "plain_seconds": median(stalls["plain"]),
        "asynchronous_seconds": median(stalls["asynchronous"]),
        "stall": median(late / plain for plain, late in pairs),
        "step_seconds": median(alone),
        "steps_beside": len(beside),
        "beside": median(beside) / median(alone),
        "slowest_beside": max(beside) / max(alone),
        "pinned": loop.savers["asynchronous"]._async._own_writer().arena.pinned,
        "memory": float(torch.cuda.max_memory_allocated(session.device)) if session.cuda else None,
    }
