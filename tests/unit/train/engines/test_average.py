"""The average of the weights over the steps, beside each optimizer's moments."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from alphadecay import AdamW
from alphadecay.optim import SGDW
from train.engines.average import AVERAGE, WeightAverage


def started(kind, decay=0.9):
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 3)
    optimizer = kind(model.parameters(), lr=0.1)
    groups = {each: group for group in optimizer.param_groups for each in group["params"]}
    return model, optimizer, WeightAverage(optimizer, groups, decay)


def step(model, optimizer):
    model(torch.ones(2, 5)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("kind", [AdamW, SGDW])
def test_it_follows_its_formula_from_the_first_weights_on(kind):
    model, optimizer, average = started(kind)
    expected = [weight.detach().double() for weight in model.parameters()]
    for _ in range(4):
        step(model, optimizer)
        average.update()
        expected = [
            0.9 * old + 0.1 * weight.detach().double()
            for old, weight in zip(expected, model.parameters(), strict=True)
        ]
    for weight, mean in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(
            optimizer.state[weight][AVERAGE].double(), mean, rtol=0, atol=1e-6
        )
        assert not torch.equal(weight, optimizer.state[weight][AVERAGE])


@pytest.mark.parametrize("kind", [AdamW, SGDW])
def test_the_optimizer_steps_as_without_it(kind):
    model, optimizer, average = started(kind)
    torch.manual_seed(0)
    plain = torch.nn.Linear(5, 3)
    own = kind(plain.parameters(), lr=0.1)
    for _ in range(3):
        step(model, optimizer)
        average.update()
        step(plain, own)
    assert all(map(torch.equal, model.parameters(), plain.parameters()))


def test_a_swap_is_taken_back_to_the_bit():
    model, optimizer, average = started(AdamW)
    step(model, optimizer)
    average.update()
    weights = [weight.detach().clone() for weight in model.parameters()]
    means = [optimizer.state[weight][AVERAGE].clone() for weight in model.parameters()]
    average.swap()
    assert all(map(torch.equal, model.parameters(), means))
    average.swap()
    assert all(map(torch.equal, model.parameters(), weights))
    kept = [optimizer.state[weight][AVERAGE] for weight in model.parameters()]
    assert all(map(torch.equal, kept, means))


def test_it_is_saved_with_the_moments():
    model, optimizer, average = started(AdamW)
    step(model, optimizer)
    average.update()
    saved = deepcopy(optimizer.state_dict())
    other, own, theirs = started(AdamW)
    own.load_state_dict(saved)
    theirs.swap()  # of what was loaded
    means = [optimizer.state[weight][AVERAGE] for weight in model.parameters()]
    assert all(map(torch.equal, other.parameters(), means))
