"""bind_uniform against torch's AdamW and Adam with a group of weights and one of norm gains."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alphadecay import Adam, AdamW
from alphadecay.baselines.uniform import bind_uniform

ETA = 0.5
LR = 1e-2


def model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Embedding(20, 16), nn.Linear(16, 24), nn.LayerNorm(24), nn.Linear(24, 20)
    )


@pytest.mark.parametrize(("ours", "torchs"), [(AdamW, torch.optim.AdamW), (Adam, torch.optim.Adam)])
def test_equals_two_param_groups(ours: type, torchs: type) -> None:
    net = model()
    twin = model()
    optimizer = ours(net.parameters(), lr=LR, weight_decay=ETA)
    bind_uniform(net, optimizer)
    groups = [
        {"params": [p for p in twin.parameters() if p.dim() > 1], "weight_decay": ETA},
        {"params": [p for p in twin.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    stock = torchs(groups, lr=LR)
    for step in range(3):
        tokens = torch.randint(0, 20, (8,), generator=torch.Generator().manual_seed(step))
        for each, stepping in ((net, optimizer), (twin, stock)):
            nn.functional.cross_entropy(each(tokens), tokens).backward()
            stepping.step()
            stepping.zero_grad()
    for (name, weight), other in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=1e-7, msg=name)


def test_a_plain_group_would_differ_in_the_gains() -> None:
    net = model()
    optimizer = AdamW(net.parameters(), lr=LR, weight_decay=ETA)
    bind_uniform(net, optimizer)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(net[2].weight, torch.ones(24))
    torch.testing.assert_close(net[1].weight, model()[1].weight * (1 - LR * ETA))


def test_without_a_base_decay_it_says_so() -> None:
    net = model()
    with pytest.raises(ValueError, match="weight_decay is 0"):
        bind_uniform(net, AdamW(net.parameters(), weight_decay=0.0))
