"""AlphaDecay on what Lightning Fabric's `setup` returns: one process and DDP ranks."""

from __future__ import annotations

from typing import Any

import pytest

from alphadecay import AlphaDecay
from tests.distributed.harness import run_ranks
from tests.integrations import loops

pytestmark = pytest.mark.integrations
fabric_module: Any = pytest.importorskip("lightning.fabric", reason="made by make integrations")


def zero_gradient_step(kind: str, devices: int) -> list[str]:
    """Check a step; return the names that the modules have."""
    fabric = fabric_module.Fabric(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto"
    )
    fabric.launch()
    bare = loops.Net()
    model, *optimizers = fabric.setup(bare, *loops.OPTIMIZERS[kind](bare))
    decay = AlphaDecay(model, optimizers, interval=4)

    def step() -> None:
        fabric.backward(loops.zero_loss(model))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    loops.check_zero_gradient_step(bare, decay, step, kind)
    assert decay.step() is False
    assert loops.train(model, optimizers, decay, steps=3) == [False, True, False]
    return list(decay.weight_decays)


@pytest.mark.parametrize("kind", loops.OPTIMIZERS)
def test_a_zero_gradient_step_decays_by_module(kind: str) -> None:
    assert zero_gradient_step(kind, devices=1) == list(loops.MATRICES)


def on_a_rank(rank: int) -> list[list[str]]:
    return [zero_gradient_step(kind, devices=2) for kind in loops.OPTIMIZERS]


def test_a_zero_gradient_step_decays_by_module_on_two_ranks() -> None:
    assert run_ranks(2, on_a_rank) == [[list(loops.MATRICES)] * 3] * 2
