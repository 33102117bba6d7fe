"""Decay towards the starting weights against its formula, and what it is refused with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alphadecay import Adam, AdamW, AlphaDecay
from alphadecay.baselines.uniform import bind_uniform

LR = 0.05
DECAY = 0.3
STEPS = 4


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8), nn.LayerNorm(8)).double()


def gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)


def by_formula(ratios: dict[str, float]) -> dict[str, torch.Tensor]:
    """AdamW without a decay, and before each of its steps the pull: exempt what has one axis."""
    model = net()
    starts = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    for step in range(STEPS):
        gradients(model, step)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.dim() > 1:
                    weight -= LR * DECAY * ratios.get(name, 1.0) * (weight - starts[name])
        optimizer.step()
    return dict(model.named_parameters())


def assert_is(model: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-13, msg=name)


def test_uniform():
    model = net()
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    bind_uniform(model, optimizer, towards="start")
    for step in range(STEPS):
        gradients(model, step)
        optimizer.step()
    assert_is(model, by_formula({}))


def test_alphadecay_with_its_ratios():
    model = net()
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    ratios = {"0.weight": 0.5, "2.weight": 2.0}
    decay = AlphaDecay(
        model,
        optimizer,
        interval=100,
        control="fixed_ratio",
        ratios=ratios,
        towards="start",
        include=list(ratios),
    )
    assert decay.weight_decays == pytest.approx({"0.weight": 0.15, "2.weight": 0.6})
    for step in range(STEPS):
        gradients(model, step)
        optimizer.step()
        decay.step()
    assert_is(model, by_formula(ratios))


def test_weights_that_have_not_moved_stay_as_they_are_to_the_bit():
    model = net().float()
    before = [weight.detach().clone() for weight in model.parameters()]
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    bind_uniform(model, optimizer, towards="start")
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(STEPS):
        optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


def test_a_penalty_and_caution_are_refused():
    model = net()
    adam = Adam(model.parameters(), lr=LR, weight_decay=DECAY)
    with pytest.raises(ValueError, match="adds its decay, an L2 penalty"):
        bind_uniform(model, adam, towards="start")
    adamw = AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    with pytest.raises(ValueError, match="use one of them"):
        bind_uniform(model, adamw, towards="start", cautious=True)
    with pytest.raises(ValueError, match="towards is 'origin'"):
        AlphaDecay(model, adamw, towards="origin")  # type: ignore[arg-type]
