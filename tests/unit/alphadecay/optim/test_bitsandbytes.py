"""Decay taken over from 8-bit optimizers: bit-equal to the same optimizer with one group per
module.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alphadecay import AlphaDecay
from tests.unit.alphadecay.nets import Net, gradients

bitsandbytes = pytest.importorskip(
    "bitsandbytes", reason="needs bitsandbytes, which this platform has no build of"
)

OPTIMIZERS = {
    "AdamW8bit": {},
    "Adam8bit": {},
    "Lion8bit": {},
    "AdEMAMix8bit": {},
    "SGD8bit": {"momentum": 0.9},
    "RMSprop8bit": {},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_one_group_per_module(name: str) -> None:
    kind = getattr(bitsandbytes.optim, name)
    options: dict[str, Any] = {"lr": 1e-2, "min_8bit_size": 256, **OPTIMIZERS[name]}
    model = Net()
    twin = Net()
    optimizer = kind(model.parameters(), weight_decay=0.1, **options)
    decays = AlphaDecay(model, optimizer).weight_decays
    groups = [
        {"params": [p], "weight_decay": decays.get(n, 0.0 if p.dim() < 2 else 0.1)}
        for n, p in twin.named_parameters()
    ]
    twins = kind(groups, **options)
    for step in range(3):
        for net, stepping in ((model, optimizer), (twin, twins)):
            gradients(net, step)
            stepping.step()
    assert any(
        value.dtype == torch.uint8
        for value in optimizer.state[model.up.weight].values()
        if torch.is_tensor(value)
    )
    for (parameter, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs), parameter
