"""The program's engines on this device against one process with torch alone, and a checkpoint of
each going on under another.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from tests.distributed.engine_runs import STEPS, Run, Trained, alone, config_of
from tests.gpu.cases import Case, Figures, Session
from tests.gpu.engines import release
from train.checkpoint.manifest import Checkpoint
from train.checkpoint.stored_state import read_masters
from train.checkpoint.universal import convert

FSDP2 = ("--engine.kind=fsdp2",)
OFFLOADED = (*FSDP2, "--engine.cpu_offload=true")
AVERAGED = "--optim.ema=0.9"
ENGINES: dict[str, tuple[str, ...]] = {
    "FSDP2": FSDP2,
    "FSDP2, CPU offload": OFFLOADED,
    "FSDP2, CPU offload, average": (*OFFLOADED, AVERAGED),
    "ZeRO-1": ("--deepspeed.config=zero1",),
    "ZeRO-3, CPU offload": ("--deepspeed.config=zero3_offload",),
}
# What was saved under one half-way, and goes on under the other.
CHANGES = {
    "ZeRO-1 to FSDP2, CPU offload": ("ZeRO-1", "FSDP2, CPU offload"),
    "FSDP2, CPU offload to itself": ("FSDP2, CPU offload", "FSDP2, CPU offload"),
    "FSDP2, CPU offload to ZeRO-3, CPU offload": ("FSDP2, CPU offload", "ZeRO-3, CPU offload"),
}
LOSSES = 5e-6  # float32: kernels add in another order
DECAYS = 1e-5
WEIGHTS = 2e-5


def cases() -> Iterator[Case]:
    """Yield a case for each engine, and for each change."""
    for number, (name, own) in enumerate(ENGINES.items()):
        seconds = 2.0 if number else 15.0  # layers are compiled
        yield Case("program", name, seconds, lambda session, own=own: whole(own, session))
    for name, (source, target) in CHANGES.items():
        yield Case(
            "program",
            name,
            3.0,
            lambda session, source=source, target=target: changed(source, target, session),
        )


def whole(own: tuple[str, ...], session: Session) -> Figures:
    """Train in one go."""
    if not _can_run(own, session):
        return {"left_out": "offloading needs a GPU"}
    run = Run(config_of(*own), session.device)
    found = run.take(range(STEPS))
    weights = _weights(run, session)
    release(run.engine.handle)
    return compared(found.losses, found, weights, session)


def changed(source: str, target: str, session: Session) -> Figures:
    """Train half-way, save, and go on under another engine."""
    if not all(_can_run(ENGINES[name], session) for name in (source, target)):
        return {"left_out": "offloading needs a GPU"}
    with tempfile.TemporaryDirectory(dir=session.folder) as folder:
        saved = Path(folder) / "saved"
        first = Run(config_of(*ENGINES[source]), session.device)
        losses = first.take(range(STEPS // 2)).losses
        first.save(saved / "state")
        release(first.engine.handle)
        state = saved / "state" if source == target else _converted(saved, first)
        second = Run(config_of(*ENGINES[target]), session.device)
        second.load(state)
        found = second.take(range(STEPS // 2, STEPS))
        weights = _weights(second, session)
        release(second.engine.handle)
    return compared(losses + found.losses, found, weights, session)


def compared(
    losses: list[float], found: Trained, weights: dict[str, Tensor], session: Session
) -> Figures:
    """Return how far a run is from that of one process."""
    expected = alone(config_of(), session.device)
    figures = {
        "losses": largest(zip(losses, expected.losses, strict=True)),
        "decays": largest((found.decays[name], decay) for name, decay in expected.decays.items()),
        "weights": max(
            float((weights[name] - weight.cpu()).abs().max())
            for name, weight in expected.weights.items()
        ),
    }
    close = (
        figures["losses"] <= LOSSES
        and figures["decays"] <= DECAYS
        and figures["weights"] <= WEIGHTS
    )
    return {**figures, "ok": close}


def largest(pairs: Any) -> float:
    """Return the largest distance within pairs."""
    return max(abs(one - other) for one, other in pairs)


def _can_run(own: tuple[str, ...], session: Session) -> bool:
    return session.cuda or own[: len(OFFLOADED)] != OFFLOADED


def _converted(saved: Path, run: Run) -> Path:
    (saved / "manifest.json").write_text("{}")
    manifest = {"step": STEPS // 2, "world_size": 1, "files": {}, **run.engine.layout}
    return convert(Checkpoint(saved, manifest), saved.with_name("universal")).path / "state"


def _weights(run: Run, session: Session) -> dict[str, Tensor]:
    """Return the float32 weights at the end as a checkpoint has them, on the CPU."""
    with tempfile.TemporaryDirectory(dir=session.folder) as folder:
        run.save(Path(folder) / "state")
        weights = read_masters(Path(folder) / "state")
        return {name: weight.clone() for name, weight in weights.items()}
