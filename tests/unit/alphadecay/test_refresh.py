"""A spread refresh's Grams are solved on a stream of their own while training goes on."""

from __future__ import annotations

import copy

import pytest
import torch
from alphadecay.refresh import SpreadRefresh
from torch import nn

from alphadecay import AdamW, AlphaDecay

INTERVAL = 4
SPREAD = 2


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(512, 1376), nn.Tanh(), nn.Linear(1376, 512), nn.Linear(512, 512))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="the side stream is CUDA's")
def test_the_side_stream_gives_the_decays_of_a_burst() -> None:
    """The weights move and memory is allocated anew while the Grams are solved; a burst looks at a
    copy of what was measured.
    """
    model = net().cuda()
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=INTERVAL, spread=SPREAD)
    first = decay.alphas
    for step in range(1, INTERVAL + SPREAD):
        inputs = torch.randn(4096, 512, generator=torch.Generator().manual_seed(step)).cuda()
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        refreshed = decay.step()
        if step == INTERVAL - 1:
            measured = copy.deepcopy(model)
            assert isinstance(decay._pending, SpreadRefresh)
        assert refreshed == (step == INTERVAL + SPREAD - 1)
    burst = AlphaDecay(measured, AdamW(measured.parameters(), weight_decay=0.1))
    assert decay.last_refresh_step == INTERVAL + SPREAD
    assert decay.alphas != first
    assert decay.alphas == pytest.approx(burst.alphas, rel=1e-3)
    assert decay.weight_decays == pytest.approx(burst.weight_decays, rel=1e-2)
