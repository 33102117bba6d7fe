"""torch's fused kernel under AlphaDecay, against its plain update and against stock optimizers that
are fused too.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alphadecay import Adam, AdamW, AlphaDecay
from tests.unit.alphadecay.nets import Net, gradients

STEPS = 6
LR = 1e-2
STOCK = {AdamW: torch.optim.AdamW, Adam: torch.optim.Adam}


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, decay: AlphaDecay | None = None
) -> list[torch.Tensor]:
    for step in range(1, STEPS + 1):
        gradients(model, step)
        optimizer.step()
        if decay is not None:
            decay.step()
    return [p.detach() for p in model.parameters()]


def ours(kind: type, fused: bool, interval: int) -> tuple[list[torch.Tensor], AlphaDecay]:
    model = Net()
    optimizer = kind(model.parameters(), lr=LR, weight_decay=0.1, fused=fused)
    decay = AlphaDecay(model, optimizer, interval=interval)
    return train(model, optimizer, decay), decay


@pytest.mark.parametrize("kind", [AdamW, Adam])
def test_equals_one_fused_stock_group_per_module(kind: type) -> None:
    found, decay = ours(kind, True, interval=10**6)
    twin = Net()
    groups = [
        {"params": [p], "weight_decay": decay.weight_decays.get(n, 0.0 if p.dim() < 2 else 0.1)}
        for n, p in twin.named_parameters()
    ]
    for a, b in zip(found, train(twin, STOCK[kind](groups, lr=LR, fused=True)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", [AdamW, Adam])
def test_fused_and_plain_differ_in_the_last_bits(kind: type) -> None:
    """Each update is rounded otherwise, by 1e-7 at most here; a module left at the base decay would
    be off by 6e-4 a step.
    """
    fused, with_it = ours(kind, True, interval=3)
    plain, without = ours(kind, False, interval=3)
    assert with_it.last_refresh_step == without.last_refresh_step == 6
    assert with_it.weight_decays == pytest.approx(without.weight_decays, rel=1e-4)
    for a, b in zip(fused, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert any(not torch.equal(a, b) for a, b in zip(fused, plain, strict=True))
