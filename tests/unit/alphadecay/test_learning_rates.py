"""Alpha as a controller of learning rates, against stock AdamW with a param group for each weight,
whose rates are worked out here from the alphas (LLR, arXiv 2605.22297).
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alphadecay import AdamW, AlphaDecay, AlphaDecayConfig

LR = 0.02
ETA = 0.3
RAMP = 4
INTERVAL = 3
ENDS = ("embed.weight", "head.weight")
INNER = ("layers.0.weight", "layers.2.weight", "layers.4.weight")


class Net(nn.Module):
    """Embedding, three linear layers with norms between them, head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(30, 24)
        self.layers = nn.Sequential(
            nn.Linear(24, 40, bias=False),
            nn.LayerNorm(40),
            nn.Linear(40, 32, bias=False),
            nn.LayerNorm(32),
            nn.Linear(32, 24, bias=False),
        )
        self.head = nn.Linear(24, 30, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(tokens)))


def loss_of(model: nn.Module, step: int) -> Tensor:
    tokens = torch.randint(0, 30, (16,), generator=torch.Generator().manual_seed(step))
    return nn.functional.cross_entropy(model(tokens), tokens.flip(0))


def build(**options: Any) -> tuple[Net, AdamW, AlphaDecay]:
    model = Net().double()
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=options.pop("weight_decay", ETA))
    options = {"drives": "lr", "interval": INTERVAL, "lr_ramp": RAMP} | options
    return model, optimizer, AlphaDecay(model, optimizer, **options)


def take(model: nn.Module, optimizer: Any, decay: AlphaDecay, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        decay.step()


def linear(alphas: dict[str, float], low: float, high: float) -> dict[str, float]:
    least, most = min(alphas.values()), max(alphas.values())
    return {n: low + (a - least) / (most - least) * (high - low) for n, a in alphas.items()}


@pytest.mark.parametrize("drives", ["lr", "both"])
def test_steps_are_those_of_a_group_a_weight_at_the_formulas_rates(drives: str) -> None:
    model, optimizer, decay = build(drives=drives, s1=0.5, s2=2.0)
    plain = Net().double()
    groups = [{"params": [p], "name": name} for name, p in plain.named_parameters()]
    oracle = torch.optim.AdamW(groups, lr=LR, weight_decay=ETA)
    now = dict.fromkeys((*INNER, *ENDS), 1.0)
    for step in range(1, 9):
        if step == 1 or step % INTERVAL == 0:  # refreshed before this step
            start, first = dict(now), step
            target = linear(decay.alphas, 1.0, 5.0) | dict.fromkeys(ENDS, 5.0)
            decays = linear(decay.alphas, 0.5, 2.0) if drives == "both" else {}
        share = min(1.0, (step - first + 1) / RAMP)
        now = {name: start[name] + share * (target[name] - start[name]) for name in now}
        assert decay.rates.ratios == pytest.approx(now, rel=1e-14)
        assert decay.rates.targets == pytest.approx(target, rel=1e-14)
        given = {name: ETA * decays.get(name, 1.0) for name in INNER}
        assert decay.weight_decays == pytest.approx(given)
        for group in oracle.param_groups:
            group["lr"] = LR * now.get(group["name"], 1.0)
            base = 0.0 if group["params"][0].dim() < 2 else ETA
            group["weight_decay"] = base * decays.get(group["name"], 1.0)
        oracle.zero_grad()
        loss_of(plain, step).backward()
        oracle.step()
        take(model, optimizer, decay, range(step, step + 1))
        for name, p in plain.named_parameters():
            torch.testing.assert_close(model.get_parameter(name), p, rtol=1e-11, atol=1e-12)


def test_a_decay_of_nothing_is_no_hindrance_where_rates_alone_are_driven() -> None:
    _, _, decay = build(weight_decay=0.0)
    assert set(decay.weight_decays.values()) == {0.0}
    with pytest.raises(ValueError, match="the optimizer's weight_decay is 0"):
        build(weight_decay=0.0, drives="decay")


def test_controls_are_the_same_rates_elsewhere_and_leave_the_ends() -> None:
    plain = build()[2].rates.targets
    alphas = build()[2].alphas
    inverted = build(control="inverted")[2].rates.targets
    mirrored = {n: min(alphas.values()) + max(alphas.values()) - a for n, a in alphas.items()}
    assert inverted == pytest.approx(linear(mirrored, 1.0, 5.0) | dict.fromkeys(ENDS, 5.0))
    shuffled = build(control="shuffled", seed=1)[2].rates.targets
    assert shuffled != plain and sorted(shuffled.values()) == sorted(plain.values())
    sizes = {name: p.numel() for name, p in Net().named_parameters() if name in INNER}
    mean = sum(plain[n] * size for n, size in sizes.items()) / sum(sizes.values())
    at_mean = build(control="uniform_at_mean")[2].rates.targets
    assert at_mean == pytest.approx(dict.fromkeys(INNER, mean) | dict.fromkeys(ENDS, 5.0))
    ends = build(control="fixed_ratio", ratios={"*": 1.0})[2].rates.targets
    assert ends == dict.fromkeys(INNER, 1.0) | dict.fromkeys(ENDS, 5.0)
    alone = build(lr_ends=1.0)[2].rates.targets
    assert alone == plain | dict.fromkeys(ENDS, 1.0)


def test_past_the_last_step_for_it_the_rates_stay() -> None:
    model, optimizer, decay = build(lr_until=4, lr_ramp=0)
    take(model, optimizer, decay, range(4))
    settled = decay.rates.targets
    alphas = decay.alphas
    take(model, optimizer, decay, range(4, 7))
    assert decay.last_refresh_step == 6 and decay.alphas != alphas
    assert decay.rates.targets == decay.rates.ratios == settled


@pytest.mark.parametrize("done", [1, 4])
def test_a_run_that_was_cut_goes_on_to_the_bit(done: int) -> None:
    whole, optimizer, decay = build(drives="both")
    take(whole, optimizer, decay, range(done))
    weights, moments, state = (
        {n: p.detach().clone() for n, p in whole.named_parameters()},
        copy.deepcopy(optimizer.state_dict()),
        json.loads(json.dumps(decay.state_dict())),  # plain numbers: of no rank and no shard
    )
    take(whole, optimizer, decay, range(done, 8))
    second, its, other = build(drives="both")
    with torch.no_grad():
        for name, p in second.named_parameters():
            p.copy_(weights[name])
    its.load_state_dict(moments)
    other.load_state_dict(state)
    take(second, its, other, range(done, 8))
    assert other.rates.ratios == decay.rates.ratios
    for name, p in whole.named_parameters():
        assert torch.equal(second.get_parameter(name), p)


def test_a_state_without_rates_begins_them() -> None:
    _, _, decay = build(drives="decay", lr_ramp=0)
    _, _, driven = build(lr_ramp=0)
    expected = driven.rates.targets
    driven.load_state_dict(decay.state_dict())
    assert driven.rates.ratios == expected and decay.rates.ratios == {}


def test_several_optimizers_each_at_their_own_rate() -> None:
    """Muon for the matrices, AdamW for the ends and the norms: both by module."""
    model = Net()
    muon = torch.optim.Muon([model.get_parameter(n) for n in INNER], lr=LR, weight_decay=ETA)
    rest = [p for name, p in model.named_parameters() if name not in INNER]
    adamw = AdamW(rest, lr=LR / 2, weight_decay=ETA)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    decay = AlphaDecay(model, [muon, adamw], drives="lr", lr_ramp=0)
    once = Net()
    still = torch.optim.Muon([once.get_parameter(n) for n in INNER], lr=LR, weight_decay=0.0)
    for each in (model, once):
        loss_of(each, 0).backward()
    for optimizer in (muon, adamw, still):
        optimizer.step()
    for name in INNER:
        ratio = decay.rates.ratios[name]
        update = once.get_parameter(name) - before[name]
        expected = before[name] * (1 - LR * ratio * ETA) + ratio * update
        torch.testing.assert_close(model.get_parameter(name), expected, rtol=0, atol=1e-6)
    # Adam's first step is its rate, whatever the gradient
    moved = (
        (model.head.weight.detach() - before["head.weight"] * (1 - 5 * LR / 2 * ETA)).abs().max()
    )
    assert float(moved) == pytest.approx(5 * LR / 2, rel=1e-3)
    assert [group["lr"] for group in (*muon.param_groups, *adamw.param_groups)] == [LR, LR / 2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"drives": "both ways"}, "drives is 'both ways', must be one of"),
        ({"lr_s1": 6.0}, "lr_s1 and lr_s2 are 6.0 and 5.0"),
        ({"lr_ends": -1.0}, "lr_ends is -1.0"),
        ({"lr_ramp": -1}, "lr_ramp -1"),
        ({"lr_ramp": 0.5}, "lr_ramp is 0.5, must be a whole number"),
    ],
)
def test_choices_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AlphaDecayConfig(**options)
