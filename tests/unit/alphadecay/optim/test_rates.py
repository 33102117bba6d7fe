"""A learning rate for each module against the same optimizer with a param group for each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alphadecay import Adam, AdamW
from alphadecay.modules import find_modules
from alphadecay.optim import SGDW
from alphadecay.optim.fragments import ENDS, REST, Fragments
from alphadecay.optim.hooks import StepHook
from alphadecay.optim.rate_kind import rates_for
from alphadecay.sharding.base import Span

LR = 0.02
STEPS = 3
RATIOS = {"a.weight": 0.5, "b.weight": 3.0, ENDS: 5.0}
SHAPES = {"a": (9, 12), "b": (12, 10)}
REST_SHAPE = (7,)
BY_ELEMENT: dict[str, Any] = {
    "AdamW": AdamW,
    "Adam": Adam,
    "SGDW": SGDW,
    "torch AdamW": torch.optim.AdamW,
    "amsgrad": partial(torch.optim.AdamW, amsgrad=True),
    "fused": partial(torch.optim.AdamW, fused=True),
    "each tensor by itself": partial(torch.optim.AdamW, foreach=False),
    "SGD": partial(torch.optim.SGD, momentum=0.9),
    "Adagrad": torch.optim.Adagrad,
    "Adamax": torch.optim.Adamax,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "RMSprop": partial(torch.optim.RMSprop, momentum=0.9),
    "Adadelta": torch.optim.Adadelta,
}


class Own(torch.optim.AdamW):
    """A user's own: its step is not one that is known."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class Squared(torch.optim.SGD):
    """Not in proportion to its learning rate."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=-(group["lr"] ** 2))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Linear(12, 9, bias=False)
        self.b = nn.Linear(10, 12, bias=False)
        self.rest = nn.Parameter(torch.randn(REST_SHAPE))


def weights_of(net: Net) -> dict[str, nn.Parameter]:
    return {"a.weight": net.a.weight, "b.weight": net.b.weight, REST: net.rest}


def gradient(step: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(size, generator=generator, dtype=torch.float64)


def by_groups(kind: Any, decay: float) -> dict[str, Tensor]:
    """The oracle: the optimizer itself, each weight in a group at its own rate."""
    net = Net().double()
    weights = weights_of(net)
    groups = [{"params": [w], "lr": LR * RATIOS.get(name, 1.0)} for name, w in weights.items()]
    optimizer = kind(groups, weight_decay=decay)
    for step in range(STEPS):
        parts = gradient(step, sum(w.numel() for w in weights.values()))
        for weight, part in zip(
            weights.values(), parts.split([w.numel() for w in weights.values()]), strict=True
        ):
            weight.grad = part.view_as(weight).clone()
        optimizer.step()
    return {name: w.detach() for name, w in weights.items()}


def spans_of(net: Net, flat: Tensor) -> Iterator[Span]:
    offset = 0
    for weight in weights_of(net).values():
        yield Span(weight, 0, weight.numel(), flat, offset, 0)
        offset += weight.numel()


def flat_run(kind: Any, decay: float) -> tuple[dict[str, Tensor], torch.optim.Optimizer, Tensor]:
    """One flat tensor that holds all weights, and elements of none behind them."""
    net = Net().double()
    weights = weights_of(net)
    size = sum(w.numel() for w in weights.values())
    flat = torch.cat([*(w.detach().reshape(-1) for w in weights.values()), torch.zeros(5)])
    flat = nn.Parameter(flat.double())
    optimizer = kind([flat], lr=LR, weight_decay=decay)
    fragments = Fragments(find_modules(net), list(spans_of(net, flat)))
    fragments.rates = rates_for(optimizer, fragments)
    fragments.rates.ratios = RATIOS
    hook = StepHook(optimizer, fragments, decoupled=kind in (AdamW, SGDW, torch.optim.AdamW))
    for step in range(STEPS):
        flat.grad = torch.cat([gradient(step, size), torch.zeros(5, dtype=torch.float64)])
        optimizer.step()
    hook.remove()
    found = flat.detach().split([*(w.numel() for w in weights.values()), 5])
    pairs = zip(weights.items(), found[:-1], strict=True)
    return {name: part.view_as(w) for (name, w), part in pairs}, optimizer, flat


@pytest.mark.parametrize("name", BY_ELEMENT)
def test_a_flat_tensor_is_stepped_as_one_group_a_module(name: str) -> None:
    kind = BY_ELEMENT[name]
    decay = 0.3 if kind in (AdamW, Adam, SGDW, torch.optim.AdamW) else 0.0
    found, optimizer, flat = flat_run(kind, decay)
    for key, expected in by_groups(kind, decay).items():
        torch.testing.assert_close(found[key], expected, rtol=1e-13, atol=1e-14, msg=key)
    assert optimizer.param_groups[0]["params"] == [flat]
    assert optimizer.param_groups[0]["lr"] == LR
    assert list(optimizer.state) == [flat]
    counts = [v for k, v in optimizer.state[flat].items() if k == "step"]
    assert [float(count) for count in counts] == [STEPS] * len(counts)


def test_an_optimizer_that_is_not_known_is_multiplied_after_its_step() -> None:
    found, optimizer, flat = flat_run(Own, 0.0)
    for key, expected in by_groups(Own, 0.0).items():
        torch.testing.assert_close(found[key], expected, rtol=1e-12, atol=1e-13, msg=key)
    assert list(optimizer.state) == [flat]


def test_columns_of_a_fused_weight_are_multiplied_after_the_step() -> None:
    """Three matrices beside each other in a weight, each a strided block of it."""
    from transformers.pytorch_utils import Conv1D

    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.c_attn = Conv1D(36, 12)

    net = Fused().double()
    weight = net.c_attn.weight
    start = weight.detach().clone()
    modules = find_modules(net)
    assert len(modules) == 3
    ratios = dict(zip((m.name for m in modules), (0.5, 1.0, 4.0), strict=True))
    optimizer = AdamW([weight], lr=LR, weight_decay=0.3)
    fragments = Fragments(modules, [Span(weight, 0, weight.numel(), weight, 0, 0)])
    fragments.rates = rates_for(optimizer, fragments)
    fragments.rates.ratios = ratios
    StepHook(optimizer, fragments, decoupled=True)
    parts = [nn.Parameter(part.clone()) for part in start.split(12, dim=1)]
    groups = [{"params": [p], "lr": LR * r} for p, r in zip(parts, ratios.values(), strict=True)]
    oracle = torch.optim.AdamW(groups, weight_decay=0.3)
    for step in range(STEPS):
        weight.grad = gradient(step, weight.numel()).view_as(weight)
        for part, each in zip(parts, weight.grad.split(12, dim=1), strict=True):
            part.grad = each.clone()
        optimizer.step()
        oracle.step()
    torch.testing.assert_close(
        weight.detach(), torch.cat([p.detach() for p in parts], dim=1), rtol=1e-12, atol=1e-13
    )


def test_muon_steps_each_matrix_at_its_rate() -> None:
    """Its own group is divided: no copy is made, and nothing of the state moves."""
    net = Net()
    other = Net()
    optimizer = torch.optim.Muon([net.a.weight, net.b.weight], lr=LR, weight_decay=0.3)
    spans = [Span(w, 0, w.numel(), w, 0, 0) for w in (net.a.weight, net.b.weight)]
    fragments = Fragments(find_modules(net), spans)
    fragments.rates = rates_for(optimizer, fragments)
    fragments.rates.ratios = RATIOS
    StepHook(optimizer, fragments, decoupled=True)
    groups = [
        {"params": [other.a.weight], "lr": LR * RATIOS["a.weight"]},
        {"params": [other.b.weight], "lr": LR * RATIOS["b.weight"]},
    ]
    oracle = torch.optim.Muon(groups, weight_decay=0.3)
    for step in range(STEPS):
        for mine, its in ((net.a.weight, other.a.weight), (net.b.weight, other.b.weight)):
            mine.grad = gradient(step, mine.numel()).view_as(mine).float()
            its.grad = mine.grad.clone()
        optimizer.step()
        oracle.step()
    # the shrinkage and the update are rounded apart here, as AlphaDecay's decay always is
    torch.testing.assert_close(net.a.weight, other.a.weight, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(net.b.weight, other.b.weight, rtol=1e-6, atol=1e-7)


def test_what_is_not_in_proportion_to_its_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Squared does not update weights in proportion"):
        flat_run(Squared, 0.0)


def test_a_step_that_fails_leaves_the_groups_and_the_state_as_they_were() -> None:
    class Failing(AdamW):
        pass

    net = Net().double()
    weights = weights_of(net)
    flat = nn.Parameter(torch.cat([w.detach().reshape(-1) for w in weights.values()]))
    optimizer = Failing([flat], lr=LR, weight_decay=0.3, foreach=True)
    fragments = Fragments(find_modules(net), list(spans_of(net, flat)))
    fragments.rates = rates_for(optimizer, fragments)
    fragments.rates.ratios = RATIOS
    hook = StepHook(optimizer, fragments, decoupled=True)
    flat.grad = torch.ones_like(flat)
    optimizer.param_groups[0]["betas"] = ("no number", 0.9)
    with pytest.raises(TypeError):
        optimizer.step()
    assert optimizer.state_dict()["param_groups"][0]["params"] == [0]  # one tensor again
    assert optimizer.param_groups[0]["params"] == [flat]
    assert optimizer.param_groups[0]["weight_decay"] == 0.3
    assert set(optimizer.state) <= {flat}
    optimizer.param_groups[0]["betas"] = (0.9, 0.99)
    before = flat.detach().clone()
    optimizer.step()
    assert bool((flat != before).all()) and hook.steps == 1
