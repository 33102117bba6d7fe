"""The momentum of an optimizer, set where each kind keeps it."""

from __future__ import annotations

from typing import Any

import torch

from alphadecay.optim import SGDW
from train.engines.optimizer import set_momentum


def groups() -> list[dict[str, Any]]:
    return [{"params": [torch.zeros(2, requires_grad=True)]} for _ in range(2)]


def test_momentum_is_set_in_every_group():
    adam = torch.optim.AdamW(groups(), betas=(0.9, 0.95))
    set_momentum(adam, 0.7)
    assert [group["betas"] for group in adam.param_groups] == [(0.7, 0.95)] * 2
    sgd = SGDW(groups(), lr=0.1)
    set_momentum(sgd, 0.6)
    assert [group["momentum"] for group in sgd.param_groups] == [0.6] * 2
