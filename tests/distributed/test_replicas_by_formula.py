"""DDP on two ranks against the formulas, by hand on an unsharded model: SGD with L2 and decoupled
decay, a base decay that changes by the step, decay towards the starting weights, and every rule
that decays by gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from alphadecay import Adam, AdamW, AlphaDecay
from alphadecay.baselines.gradient_decay import GradientDecay
from alphadecay.optim import SGD, SGDW
from tests.distributed import gradient_oracle, reference
from tests.distributed.harness import run_ranks
from train.models.build import build_model

RANKS = 2
ROWS = 4
STEPS = 5
INTERVAL = 2
ADAM: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-4}
SLOW_SGD: dict[str, Any] = {"lr": 0.3, "momentum": 0.9}


@dataclass(frozen=True)
class Case:
    """An optimizer under AlphaDecay."""

    kind: type[torch.optim.Optimizer]
    options: dict[str, Any]
    base: float
    scheduled: bool = False  # the base decay falls to a third over the steps
    towards: Any = "zero"
    by_module: bool = True

    def base_at(self, step: int) -> float:
        """The base decay of a step, the first being 1."""
        return self.base * (1 - 2 / 3 * step / STEPS) if self.scheduled else self.base


CASES = {
    "sgd": Case(SGD, SLOW_SGD, 0.05),
    "sgdw": Case(SGDW, SLOW_SGD, 0.05),
    "adam, scheduled": Case(Adam, ADAM, 0.05, scheduled=True),
    "adamw, scheduled": Case(AdamW, ADAM, 1.0, scheduled=True),
    "sgdw, scheduled": Case(SGDW, SLOW_SGD, 0.05, scheduled=True),
    "adamw, towards the start": Case(AdamW, ADAM, 1.0, towards="start"),
    "sgdw, scheduled, towards the start": Case(SGDW, SLOW_SGD, 0.05, True, "start"),
}


def replicas(rank: int) -> list[dict[str, Tensor]]:
    """Weights of every case under DDP."""
    return [replica(rank, case) for case in CASES.values()]


def replica(rank: int, case: Case) -> dict[str, Tensor]:
    model = build_model(reference.TINY, reference.LENGTH, seed=7)
    wrapped = DistributedDataParallel(model)
    optimizer: Any = case.kind(model.parameters(), weight_decay=case.base, **case.options)
    decay = AlphaDecay(wrapped, optimizer, interval=INTERVAL, towards=case.towards)
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["weight_decay"] = case.base_at(step)
        share = reference.tokens(step, ROWS).reshape(RANKS, -1, reference.LENGTH)[rank]
        wrapped(input_ids=share, labels=share).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    return {name: weight.detach() for name, weight in model.named_parameters()}


def formula(case: Case) -> dict[str, Tensor]:
    """Torch's Adam or SGD without decay, on the whole batch; the decay is added by hand."""
    model = build_model(reference.TINY, reference.LENGTH, seed=7)
    starts = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    plain = torch.optim.Adam if issubclass(case.kind, torch.optim.Adam) else torch.optim.SGD
    optimizer = plain(model.parameters(), **case.options)
    lr = case.options["lr"]
    ratios: dict[str, float] = {}
    for step in range(1, STEPS + 1):
        if case.by_module and (step == 1 or step % INTERVAL == 0):
            decays = reference.linear_decays(reference.layer_weights(model))
            ratios = {name: decay / reference.WEIGHT_DECAY for name, decay in decays.items()}
        batch = reference.tokens(step, ROWS)
        model(input_ids=batch, labels=batch).loss.backward()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.dim() < 2:
                    continue
                pull = case.base_at(step) * ratios.get(name, 1.0) * weight
                if case.towards == "start":
                    pull -= case.base_at(step) * ratios.get(name, 1.0) * starts[name]
                if case.kind in (Adam, SGD):
                    weight.grad += pull
                else:
                    weight -= lr * pull
        optimizer.step()
        optimizer.zero_grad()
    return {name: weight.detach() for name, weight in model.named_parameters()}


@cache
def expected(name: str) -> dict[str, Tensor]:
    return formula(CASES[name])


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    # float32: the gradients of two ranks are added in another order
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=5e-6, msg=name)


def test_each_optimizer_equals_its_formula() -> None:
    for rank in run_ranks(RANKS, replicas):
        for name, found in zip(CASES, rank, strict=True):
            assert_close(found, expected(name))


OTHERWISE: dict[str, Callable[[Case], Case]] = {
    "one decay for all": lambda case: replace(case, by_module=False),
    "the other way to decay": lambda case: replace(
        case, kind={SGD: SGDW, SGDW: SGD, Adam: AdamW, AdamW: Adam}[case.kind]
    ),
    "the other schedule": lambda case: replace(case, scheduled=not case.scheduled),
    "towards the other": lambda case: replace(
        case, towards="zero" if case.towards == "start" else "start"
    ),
}


@pytest.mark.parametrize("otherwise", OTHERWISE)
def test_the_tolerance_tells_each_from_what_it_is_not(otherwise: str) -> None:
    for name, case in CASES.items():
        with pytest.raises(AssertionError):
            assert_close(formula(OTHERWISE[otherwise](case)), expected(name))


RULES = [
    *((rule, AdamW) for rule in gradient_oracle.RULES),
    ("awd", Adam),
    ("adadecay", Adam),
    ("adadecay_parameters", Adam),
]


def by_gradients(rank: int) -> list[tuple[dict[str, Tensor], dict[str, float]]]:
    """Weights and decays of every rule under DDP."""
    return [by_rule(rank, rule, kind) for rule, kind in RULES]


def by_rule(rank: int, rule: Any, kind: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
    given = gradient_oracle
    model = build_model(reference.TINY, reference.LENGTH, seed=7)
    wrapped = DistributedDataParallel(model)
    optimizer = kind(
        model.parameters(), lr=reference.LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=given.ETA
    )
    decay = GradientDecay(wrapped, optimizer, rule=rule, interval=given.INTERVAL)
    for step in range(1, given.STEPS + 1):
        share = reference.tokens(step, given.ROWS).reshape(RANKS, -1, reference.LENGTH)[rank]
        wrapped(input_ids=share, labels=share).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    return {n: weight.detach() for n, weight in model.named_parameters()}, decay.weight_decays


def test_each_rule_of_gradients_equals_its_formula() -> None:
    found = run_ranks(RANKS, by_gradients)
    for number, (rule, kind) in enumerate(RULES):
        wanted, decays = gradient_oracle.llama_oracle(rule, kind is AdamW)
        for rank in found:
            weights, own = rank[number]
            if rule in ("adadecay", "gradient_norm"):
                assert own == pytest.approx(decays, rel=1e-3)
            for name, weight in wanted.items():
                torch.testing.assert_close(
                    weights[name], weight, rtol=0, atol=0.02 * reference.LR, msg=f"{rule}: {name}"
                )
