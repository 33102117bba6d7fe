"""Cautious decay against its formula, written with the optimizer's update from a run without decay.

x ← x − η·(u + λ·1[u·x ≥ 0]·x): u is what the same optimizer does from the same weights and state.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alphadecay import AdamW, AlphaDecay
from alphadecay.baselines.gradient_decay import GradientDecay
from alphadecay.baselines.uniform import bind_uniform
from alphadecay.optim import cautious, copies

LR = 0.05
ETA = 0.4
STEPS = 4


def model_of() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(24, 40), nn.LayerNorm(40), nn.Linear(40, 24)).double()
    return layers


def loss_of(model: nn.Module, step: int) -> Tensor:
    batch = torch.randn(8, 24, generator=torch.Generator().manual_seed(step)).double()
    loss: Tensor = (model(batch) - batch.flip(1)).square().mean()
    return loss


def formula(optimizer: torch.optim.Optimizer, model: nn.Module, decays: dict[str, Any]) -> None:
    """One step by hand: an optimizer without decay, and then the decay where signs agree."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    with torch.no_grad():
        for name, p in model.named_parameters():
            update = before[name] - p
            agrees = torch.sign(update) * torch.sign(before[name]) >= 0
            p -= LR * decays.get(name, 0.0) * torch.where(agrees, before[name], 0.0)


def take_pieces(by_cache: bool, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cautious, "_BY_CACHE", {"cpu"} if by_cache else set())
    monkeypatch.setattr(cautious, "_CHUNK", chunk)
    monkeypatch.setattr(copies, "_CHUNK", chunk)


@pytest.mark.parametrize("kind", [AdamW, torch.optim.AdamW, torch.optim.Adafactor])
@pytest.mark.parametrize("by_cache", [True, False])  # as on a CPU, as on a GPU
@pytest.mark.parametrize("chunk", [1 << 22, 100])
def test_equals_the_formula(
    kind: Any, by_cache: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_pieces(by_cache, chunk, monkeypatch)
    model = model_of()
    plain = copy.deepcopy(model)
    optimizer = kind(model.parameters(), lr=LR, weight_decay=ETA)
    decay = AlphaDecay(model, optimizer, interval=2, cautious=True)
    by_hand = kind(plain.parameters(), lr=LR, weight_decay=0.0)
    for step in range(STEPS):
        decays = decay.weight_decays
        assert len(set(decays.values())) == 2
        for each, its in ((model, optimizer), (plain, by_hand)):
            its.zero_grad()
            loss_of(each, step).backward()
        optimizer.step()
        formula(by_hand, plain, decays)
        decay.step()
        for name, p in plain.named_parameters():
            torch.testing.assert_close(model.get_parameter(name), p, rtol=1e-13, atol=1e-14)
    assert optimizer.param_groups[0]["weight_decay"] == ETA


@pytest.mark.parametrize("by_cache", [True, False])
def test_a_decay_for_each_element(by_cache: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    take_pieces(by_cache, 100, monkeypatch)
    model = model_of()
    plain = copy.deepcopy(model)
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=ETA)
    GradientDecay(model, optimizer, rule="adadecay_parameters", cautious=True)
    by_hand = AdamW(plain.parameters(), lr=LR, weight_decay=0.0)
    for each in (model, plain):
        loss_of(each, 0).backward()
    decays = {}
    for name in ("0.weight", "2.weight"):
        size = plain.get_parameter(name).grad.abs()
        decays[name] = ETA * 2 * torch.sigmoid(4 * (size - size.mean()) / size.std(correction=0))
    optimizer.step()
    formula(by_hand, plain, decays)
    for name, p in plain.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), p, rtol=1e-11, atol=1e-12)


def test_it_differs_from_decay_everywhere_and_from_none() -> None:
    found = []
    for options in ({"cautious": True}, {"cautious": False}, None):
        model = model_of()
        optimizer = AdamW(model.parameters(), lr=LR, weight_decay=ETA if options else 0.0)
        if options:
            bind_uniform(model, optimizer, **options)
        loss_of(model, 0).backward()
        optimizer.step()
        found.append(model[0].weight.detach())
    careful, everywhere, none = found
    spared = (careful - none).abs() < 1e-12
    assert 0.2 < spared.double().mean() < 0.8
    torch.testing.assert_close(careful[~spared], everywhere[~spared], rtol=1e-12, atol=1e-12)


def test_a_step_that_fails_decays_nothing_later() -> None:
    class Failing(AdamW):
        fails = False  # not while its twin is tried

        def step(self, closure: Any = None) -> Any:
            if self.fails:
                raise RuntimeError("out of memory")
            return super().step(closure)

    model = model_of()
    optimizer = Failing(model.parameters(), lr=LR, weight_decay=ETA)
    attachment = bind_uniform(model, optimizer, cautious=True)
    Failing.fails = True
    loss_of(model, 0).backward()
    before = model[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step()
    optimizer.zero_grad()
    Failing.fails = False
    optimizer.step()  # without gradients
    assert torch.equal(model[0].weight, before)
    attachment.remove()


def test_a_penalty_inside_the_step_is_refused() -> None:
    model = model_of()
    with pytest.raises(ValueError, match=r"SGD has its decay, an L2 penalty, inside it"):
        AlphaDecay(model, torch.optim.SGD(model.parameters(), LR, weight_decay=ETA), cautious=True)
