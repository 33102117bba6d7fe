"""SGD with L2 and SGDW against the lines of arXiv 1711.05101 in float64, and under AlphaDecay."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alphadecay import AlphaDecay
from alphadecay.optim import SGD, SGDW
from alphadecay.optim.decay_kind import is_decoupled

LR = 0.1
MOMENTUM = 0.8
ETA = 0.3


def model_of() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40), nn.Tanh(), nn.Linear(40, 24)).double()


def loss_of(model: nn.Module, step: int) -> Tensor:
    batch = torch.randn(8, 24, generator=torch.Generator().manual_seed(step)).double()
    loss: Tensor = (model(batch) - batch.flip(1)).square().mean()
    return loss


def rate(step: int) -> float:
    return LR / (1 + step)


def by_hand(model: nn.Module, decays: dict[str, float], decoupled: bool, steps: range) -> None:
    """Equations of the paper's Algorithm 1, with the rate on the momentum and not in it."""
    moving = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for step in steps:
        model.zero_grad()
        loss_of(model, step).backward()
        with torch.no_grad():
            for name, w in model.named_parameters():
                decay = decays.get(name, 0.0)
                gradient = w.grad if decoupled else w.grad + decay * w
                moving[name] = MOMENTUM * moving[name] + gradient
                shrink = 1 - rate(step) * decay if decoupled else 1.0
                w.copy_(shrink * w - rate(step) * moving[name])


def take(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [SGD, SGDW])
def test_equals_the_formula(kind: Any) -> None:
    model = model_of()
    plain = copy.deepcopy(model)
    take(model, kind(model.parameters(), LR, MOMENTUM, weight_decay=ETA), range(4))
    decays = {name: ETA for name, _ in plain.named_parameters()}
    by_hand(plain, decays, kind is SGDW, range(4))
    assert_equal(model, plain)


@pytest.mark.parametrize("kind", [SGD, SGDW])
def test_each_module_its_own_decay(kind: Any) -> None:
    model = model_of()
    plain = copy.deepcopy(model)
    optimizer = kind(model.parameters(), LR, MOMENTUM, weight_decay=ETA)
    assert is_decoupled(optimizer) is (kind is SGDW)
    decay = AlphaDecay(model, optimizer, interval=100)
    assert len(set(decay.weight_decays.values())) == 2
    take(model, optimizer, range(4))
    by_hand(plain, decay.weight_decays, kind is SGDW, range(4))
    assert_equal(model, plain)


def test_at_a_constant_rate_the_steps_are_the_papers() -> None:
    """m ← β·m + η·α·g, x ← x − m − η·λ'·x, with λ' = α·λ and η = 1."""
    model = model_of()
    plain = copy.deepcopy(model)
    optimizer = SGDW(model.parameters(), LR, MOMENTUM, weight_decay=ETA)
    moving = {name: torch.zeros_like(p) for name, p in plain.named_parameters()}
    for step in range(4):
        for each in (model, plain):
            each.zero_grad()
            loss_of(each, step).backward()
        optimizer.step()
        with torch.no_grad():
            for name, x in plain.named_parameters():
                moving[name] = MOMENTUM * moving[name] + LR * x.grad
                x.copy_(x - moving[name] - LR * ETA * x)
    assert_equal(model, plain)


def test_a_step_that_fails_leaves_the_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("out of memory")

    model = model_of()
    optimizer = SGDW(model.parameters(), LR, weight_decay=ETA)
    loss_of(model, 0).backward()
    monkeypatch.setattr(SGD, "step", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step()
    assert optimizer.param_groups[0]["weight_decay"] == ETA
