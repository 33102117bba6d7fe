"""Trains the program's Trainer to its end, and hashes its state after every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.integration.stopping import hash_of
from train.engines.fsdp2_state import flat_state
from train.loop.trainer import Trainer


def live(trainer: Trainer) -> str:
    """Return a hash of this rank's weights and moments and of the decays."""
    engine: Any = trainer.engine
    if engine.optimizer is not None:
        tensors = flat_state(engine.module, engine.optimizer)
        state = {name: getattr(own, "_local_tensor", own) for name, own in tensors.items()}
    else:
        state = {"optimizer": engine.handle.optimizer.state_dict()}
        state["module"] = engine.handle.module_state_dict()
    assert trainer.decay is not None
    return hash_of([state, trainer.decay.state_dict(), torch.get_rng_state()])


def trained(trainer: Trainer, after: Callable[[int], None] = lambda step: None) -> dict[int, str]:
    """Train to the end; return the state's hash by step.

    Args:
        after: is called after each step, with its number.
    """
    hashes = {}
    train = trainer.telemetry.train

    def watched(step: int, values: Any) -> None:
        train(step, values)
        hashes[step] = live(trainer)
        after(step)

    trainer.telemetry.train = watched  # type: ignore[method-assign, assignment]
    trainer.train()
    trainer.telemetry.close()
    trainer.saver.close()
    return hashes
