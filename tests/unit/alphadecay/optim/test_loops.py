"""What users' loops do beside step(): closures, gradient scalers, maximizing, copies, groups that
change; ours against stock optimizers.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from alphadecay import Adam, AdamW, AlphaDecay

LR = 0.1
DECAY = 0.1
KINDS = [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, Adam, AdamW]


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30, bias=False), nn.Linear(30, 10, bias=False))


def ours(kind: Any, model: nn.Module, **choices: Any) -> tuple[torch.optim.Optimizer, AlphaDecay]:
    optimizer = kind(model.parameters(), lr=LR, weight_decay=DECAY, **choices)
    return optimizer, AlphaDecay(model, optimizer)


def stock(kind: Any, model: nn.Module, decay: AlphaDecay, **choices: Any) -> torch.optim.Optimizer:
    """torch's own, one group per weight with the decay that AlphaDecay found."""
    base = {Adam: torch.optim.Adam, AdamW: torch.optim.AdamW}.get(kind, kind)
    groups = [
        {"params": [p], "weight_decay": decay.weight_decays[name]}
        for name, p in model.named_parameters()
    ]
    return base(groups, lr=LR, **choices)


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    return model(torch.randn(8, 20, generator=torch.Generator().manual_seed(step))).square().mean()


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_that_a_closure_makes(kind: Any, by_name: bool) -> None:
    model = layers()
    twin = layers()
    optimizer, decay = ours(kind, model)
    plain = stock(kind, twin, decay)
    losses = []
    for step in range(3):
        for each, stepping in ((model, optimizer), (twin, plain)):

            def closure(
                each: nn.Module = each, stepping: torch.optim.Optimizer = stepping, step: int = step
            ) -> float:
                stepping.zero_grad()
                loss = loss_of(each, step)
                loss.backward()
                return float(loss.detach())

            losses.append(stepping.step(closure=closure) if by_name else stepping.step(closure))
        assert losses[-2] == pytest.approx(losses[-1], rel=1e-5)
    assert_equal(model, twin)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, Adam, AdamW])
def test_a_gradient_scaler(kind: Any, fused: bool) -> None:
    """The second step's gradients overflow: it is skipped, decay and all."""
    model = layers()
    twin = layers()
    optimizer, decay = ours(kind, model, fused=fused)
    plain = stock(kind, twin, decay, fused=fused)
    scalers = [torch.amp.GradScaler("cpu", init_scale=1024.0) for _ in range(2)]
    for step in range(3):
        before = [p.detach().clone() for p in model.parameters()]
        for each, stepping, scaler in ((model, optimizer, scalers[0]), (twin, plain, scalers[1])):
            stepping.zero_grad()
            scaler.scale(loss_of(each, step) * (float("inf") if step == 1 else 1.0)).backward()
            scaler.step(stepping)
            scaler.update()
        unmoved = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        assert unmoved == (step == 1)
    assert_equal(model, twin)


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_maximizing(kind: Any, foreach: bool) -> None:
    model = layers()
    twin = layers()
    optimizer, decay = ours(kind, model, maximize=True, foreach=foreach)
    plain = stock(kind, twin, decay, maximize=True, foreach=foreach)
    for step in range(3):
        for each, stepping in ((model, optimizer), (twin, plain)):
            stepping.zero_grad()
            loss_of(each, step).backward()
            stepping.step()
    assert_equal(model, twin)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_not_contiguous(kind: Any) -> None:
    model = layers()
    twin = layers()
    for each in (model, twin):
        each[0].weight = nn.Parameter(each[0].weight.detach().t().contiguous().t())
    optimizer, decay = ours(kind, model)
    plain = stock(kind, twin, decay)
    for each, stepping in ((model, optimizer), (twin, plain)):
        loss_of(each, 0).backward()
        stepping.step()
    assert not model[0].weight.is_contiguous()
    assert_equal(model, twin)


@pytest.mark.parametrize("kind", [AdamW, torch.optim.AdamW])
def test_a_parameter_that_comes_later(kind: Any) -> None:
    model = layers()
    late = nn.Linear(10, 4, bias=False)
    optimizer, decay = ours(kind, model)
    optimizer.add_param_group({"params": late.parameters()})
    late(model(torch.ones(2, 20))).sum().backward()
    with pytest.raises(
        ValueError,
        match=r"shape \[4, 10\] came to the optimizer after.*after the last add_param_group",
    ):
        optimizer.step()
    decay.remove()
    AlphaDecay(nn.Sequential(model, late), optimizer)
    optimizer.step()


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_a_copy_of_the_optimizer_decays_by_itself_again(kind: Any) -> None:
    model = layers()
    optimizer, _ = ours(kind, model)
    twin, twins = copy.deepcopy((model, optimizer))
    assert [group["weight_decay"] for group in twins.param_groups] == [DECAY]
    plain = copy.deepcopy(model)
    uniform = stock(
        kind,
        plain,
        AlphaDecay(plain, AdamW(plain.parameters(), weight_decay=DECAY), s1=1.0, s2=1.0),
    )
    for each, stepping in ((twin, twins), (plain, uniform)):
        loss_of(each, 0).backward()
        stepping.step()
    assert_equal(twin, plain)


@pytest.mark.parametrize("kind", [AdamW, torch.optim.AdamW])
def test_weights_of_16_bits_are_refused(kind: Any) -> None:
    model = layers().bfloat16()
    with pytest.raises(
        ValueError,
        match=r"master weights are torch.bfloat16, in which decay is lost; keep them in float32",
    ):
        ours(kind, model)
    frozen = layers()
    frozen[0].bfloat16().requires_grad_(False)
    ours(kind, frozen)  # nothing is lost where nothing is trained
