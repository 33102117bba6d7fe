"""The learning rate against formulas written another way."""

import cmath
import math
from typing import get_args, get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.config import DecayConfig, OptimConfig, RunConfig, TrainConfig
from train.config.command_line import load_config
from train.errors import UserError
from train.loop.schedules import (
    DECAY_SCHEDULES,
    SCHEDULES,
    WHOLE_SCHEDULES,
    base_decay,
    learning_rate,
    momentum,
)

STEPS = st.integers(1, 400).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)
RATES = st.floats(1e-6, 1.0)
SHARES = st.floats(0.0, 1.0)


def test_every_schedule_of_the_recipe_has_its_function():
    names = set(get_args(get_type_hints(OptimConfig)["schedule"]))
    assert SCHEDULES.keys() | WHOLE_SCHEDULES.keys() == names
    assert not SCHEDULES.keys() & WHOLE_SCHEDULES.keys()


def cosine(lr, ratio, warmup, steps, step):
    """Warm-up as a share of the peak; after it, half the distance to the floor times 1 + Re
    e^{iπp}.
    """
    if step <= warmup:
        return lr * (step / warmup)
    floor = ratio * lr
    turn = cmath.exp(1j * math.pi * (step - warmup) / (steps - warmup)).real
    return floor + (lr - floor) / 2 * (1 + turn)


def straight(x, x0, y0, x1, y1):
    """The line through (x0, y0) and (x1, y1) at x."""
    return (y0 * (x1 - x) + y1 * (x - x0)) / (x1 - x0)


@given(RATES, SHARES, STEPS)
def test_cosine(lr, ratio, numbers):
    steps, warmup, step = numbers
    optim = OptimConfig(lr=lr, min_lr_ratio=ratio, warmup_steps=warmup)
    assert learning_rate(optim, step, steps) == pytest.approx(
        cosine(lr, ratio, warmup, steps, step), rel=1e-9, abs=1e-15
    )


@given(RATES, SHARES, STEPS)
def test_linear(lr, ratio, numbers):
    steps, warmup, step = numbers
    optim = OptimConfig(schedule="linear", lr=lr, min_lr_ratio=ratio, warmup_steps=warmup)
    expected = (
        straight(step, 0, 0.0, warmup, lr)
        if step <= warmup
        else straight(step, warmup, lr, steps, ratio * lr)
    )
    assert learning_rate(optim, step, steps) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@given(RATES, SHARES, STEPS, st.floats(0.01, 1.0))
def test_wsd_is_the_lowest_of_three_lines(lr, ratio, numbers, share):
    steps, warmup, step = numbers
    optim = OptimConfig(
        schedule="wsd", lr=lr, min_lr_ratio=ratio, warmup_steps=warmup, wsd_decay_share=share
    )
    begin = max(warmup, steps - max(1, round(share * steps)))
    lines = [lr]
    if step <= warmup:
        lines.append(straight(step, 0, 0.0, warmup, lr))
    elif step >= begin:
        lines.append(straight(step, begin, lr, steps, ratio * lr))
    assert learning_rate(optim, step, steps) == pytest.approx(min(lines), rel=1e-9, abs=1e-15)


def test_wsd_by_hand():
    optim = OptimConfig(
        schedule="wsd", lr=1.0, min_lr_ratio=0.0, warmup_steps=2, wsd_decay_share=0.4
    )
    rates = [learning_rate(optim, step, 10) for step in range(1, 11)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_starts_above_zero_and_ends_at_the_peak(schedule):
    optim = OptimConfig(schedule=schedule, lr=0.5, warmup_steps=4)
    assert [learning_rate(optim, step, 100) for step in (1, 2, 3, 4)] == [0.125, 0.25, 0.375, 0.5]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 1.0])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 7), (1, 6), (15, 150), (1000, 10000)])
def test_it_ends_exactly_at_the_floor(schedule, ratio, warmup, steps):
    optim = OptimConfig(schedule=schedule, lr=1e-3, min_lr_ratio=ratio, warmup_steps=warmup)
    assert learning_rate(optim, steps, steps) == 1e-3 * ratio


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_after_warm_up_it_only_falls(schedule):
    optim = OptimConfig(schedule=schedule, lr=1.0, warmup_steps=10, min_lr_ratio=0.1)
    rates = [learning_rate(optim, step, 100) for step in range(10, 101)]
    assert rates == sorted(rates, reverse=True) and rates[0] == 1.0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_over_the_whole_run_never_falls(schedule):
    optim = OptimConfig(schedule=schedule, lr=1.0, warmup_steps=5)
    assert [learning_rate(optim, step, 5) for step in range(1, 6)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1.0]
    )


@pytest.mark.parametrize("name", ["adamw", "sgdw"])
@pytest.mark.parametrize(("warmup", "steps"), [(30, 100), (2, 40), (40, 40)])
def test_one_cycle_is_torchs(name, warmup, steps):
    optim = OptimConfig(
        name=name,
        schedule="one_cycle",
        lr=0.5,
        warmup_steps=warmup,
        min_lr_ratio=0.01,
        beta1=0.95,
        momentum=0.95,
    )
    weights = [torch.zeros(1, requires_grad=True)]
    theirs = torch.optim.AdamW(weights) if name == "adamw" else torch.optim.SGD(weights, 1, 0.9)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        theirs,
        max_lr=0.5,
        total_steps=steps,
        pct_start=warmup / steps,
        final_div_factor=0.5 / 25 / (0.5 * 0.01),
        base_momentum=optim.cycle_momentum,
        max_momentum=0.95,
    )
    for step in range(1, steps + 1):
        group = theirs.param_groups[0]
        expected = group["betas"][0] if name == "adamw" else group["momentum"]
        assert learning_rate(optim, step, steps) == pytest.approx(group["lr"], rel=1e-9)
        assert momentum(optim, step, steps) == pytest.approx(expected, rel=1e-9)
        theirs.step()
        if step < steps:
            cycle.step()


def test_one_cycle_without_a_rise_begins_at_its_peak():
    optim = OptimConfig(schedule="one_cycle", lr=0.5, warmup_steps=1, min_lr_ratio=0.01)
    assert learning_rate(optim, 1, 40) == 0.5 and momentum(optim, 1, 40) == optim.cycle_momentum
    assert learning_rate(optim, 40, 40) == 0.5 * 0.01 and momentum(optim, 40, 40) == optim.beta1


def test_momentum_stays_under_every_other_schedule():
    for schedule in [*SCHEDULES, "range"]:
        adam = OptimConfig(schedule=schedule, beta1=0.8, min_lr_ratio=0.1)
        assert {momentum(adam, step, 50) for step in (1, 25, 50)} == {0.8}
    assert momentum(OptimConfig(name="sgd", momentum=0.7), 1, 50) == 0.7


def test_a_range_rises_by_one_factor_a_step():
    optim = OptimConfig(schedule="range", lr=1.0, min_lr_ratio=1e-6)
    rates = [learning_rate(optim, step, 7) for step in range(1, 8)]
    assert rates == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_what_the_schedule_cannot_be():
    for wrong in (
        ["--optim.schedule", "cosin"],
        ["--optim.wsd_decay_share", "0"],
        ["--optim.wsd_decay_share", "1.5"],
    ):
        with pytest.raises(UserError, match=wrong[0][2:]):
            load_config(wrong)


def decaying(schedule, method="alphadecay"):
    return TrainConfig(
        decay=DecayConfig(schedule=schedule, method=method),
        optim=OptimConfig(schedule="linear", lr=0.5, weight_decay=0.2, warmup_steps=2),
        run=RunConfig(steps=6),
    )


def test_every_schedule_of_the_decay_has_its_function():
    assert set(DECAY_SCHEDULES) == set(get_args(get_type_hints(DecayConfig)["schedule"]))


def test_each_schedule_of_the_decay_by_hand():
    def over_the_run(schedule):
        return [base_decay(decaying(schedule), step) for step in range(1, 7)]

    assert over_the_run("constant") == [0.2] * 6
    high = 0.1 * (1 + math.sqrt(3) / 2)
    assert over_the_run("cosine") == pytest.approx([high, 0.15, 0.1, 0.05, 0.2 - high, 0])
    # the rate: up to 0.5 in two steps, then down to a tenth of it in four
    assert over_the_run("lr") == pytest.approx([0.1, 0.2, 0.155, 0.11, 0.065, 0.02])


def test_no_decay_is_none_at_every_step():
    for method in ("none", "lawn", "hyperball"):
        assert base_decay(decaying("constant", method), 3) == 0.0
