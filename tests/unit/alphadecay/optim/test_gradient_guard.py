"""Finite gradients and their norm, against float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alphadecay import AdamW
from alphadecay.optim.gradient_guard import FiniteCheck, unguard


def groups(*rows: list[float]) -> list[dict[str, list[nn.Parameter]]]:
    parameters = [nn.Parameter(torch.zeros(len(row))) for row in rows]
    for parameter, row in zip(parameters, rows, strict=True):
        parameter.grad = torch.tensor(row)
    return [{"params": [*parameters, nn.Parameter(torch.zeros(3))]}]  # the last has no gradient


def test_the_norm_is_that_of_all_gradients_together() -> None:
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randn(1000, generator=generator).tolist() for _ in range(3)]
    check = FiniteCheck()
    assert check.check(groups(*rows)) and not check.failed
    assert float(check.norm) == pytest.approx(
        float(torch.tensor(rows, dtype=torch.float64).norm()), rel=1e-6
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_entry_is_found(bad: float) -> None:
    check = FiniteCheck()
    assert not check.check(groups([1.0, 2.0], [3.0, bad])) and check.failed


def test_a_norm_that_overflows_is_one_too() -> None:
    """Adam's second moment of it would be Inf for ever after."""
    assert not FiniteCheck().check(groups([1e30, 1.0]))
    assert FiniteCheck().check(groups([1e15, 1.0]))


def test_no_gradients_are_finite() -> None:
    assert FiniteCheck().check(groups())


def test_a_known_norm_holds_for_one_step() -> None:
    """It spares the pass, so that the gradients are not looked at; the next step's are."""
    check = FiniteCheck()
    check.know(torch.tensor(5.0))
    assert check.check(groups([float("nan")])) and float(check.norm) == 5.0
    assert not check.check(groups([float("nan")]))
    check.know(torch.tensor(float("inf")))
    assert not check.check(groups([1.0]))


def test_a_guard_is_taken_off_again() -> None:
    model = nn.Linear(3, 3)
    optimizer = AdamW(model.parameters(), weight_decay=0.1)
    before = set(vars(optimizer))
    optimizer.guard()
    assert optimizer.guard() is optimizer.guard()
    unguard(optimizer)
    assert set(vars(optimizer)) == before
    model.weight.grad = torch.full((3, 3), float("nan"))
    optimizer.step()
    assert model.weight.isnan().all()
