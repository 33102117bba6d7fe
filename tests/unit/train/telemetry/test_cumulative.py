"""Σ lr · λ against the weights themselves, and the half-life."""

import math

import pytest
import torch

from alphadecay import AdamW, AlphaDecay
from train.telemetry.cumulative import CumulativeDecay, half_lives


def test_weights_without_gradient_shrink_by_it():
    """Decoupled decay of a weight whose gradient is 0 is the product of 1 − lr · λ, so −ln of it is
    the sum, to second order.
    """
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(
        {"a": torch.nn.Linear(96, 64, bias=False), "b": torch.nn.Linear(64, 96, bias=False)}
    )
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=7)
    total = CumulativeDecay()
    oracle = {name: [] for name in decay.weight_decays}
    start = {name: parameter.norm().item() for name, parameter in model.named_parameters()}
    for step in range(1, 21):
        lr = optimizer.param_groups[0]["lr"] = 1e-4 * step
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        total.add(lr, decay.weight_decays)
        for name, value in decay.weight_decays.items():
            oracle[name].append(lr * value)
        decay.step()
    assert total.sums == pytest.approx(
        {name: math.fsum(parts) for name, parts in oracle.items()}, rel=1e-14
    )
    for name, parameter in model.named_parameters():
        assert -math.log(parameter.norm().item() / start[name]) == pytest.approx(
            total.sums[name], rel=1e-3
        )
    assert total.mean == pytest.approx(sum(total.sums.values()) / 2, rel=1e-15)


def test_a_resumed_sum_is_the_same_to_the_bit():
    whole = CumulativeDecay()
    first = CumulativeDecay()
    second = CumulativeDecay()
    steps = [(1e-3 / (k + 1), {"a": 0.1 * (k % 3), "b": 0.3}) for k in range(10)]
    for k, step in enumerate(steps):
        whole.add(*step)
        if k < 5:
            first.add(*step)
    second.load(first.sums)
    for step in steps[5:]:
        second.add(*step)
    assert second.sums == whole.sums and CumulativeDecay().mean == 0.0


def test_half_lives():
    found = half_lives(1e-3, {"a": 0.1, "b": 0.0}, tokens_per_step=1000)
    assert found["half_life_steps"] == {"a": pytest.approx(math.log(2) / 1e-4), "b": None}
    assert found["half_life_tokens"] == {"a": pytest.approx(1000 * math.log(2) / 1e-4), "b": None}
    assert half_lives(0.0, {"a": 0.1}, 1) == {
        "half_life_steps": {"a": None},
        "half_life_tokens": {"a": None},
    }
