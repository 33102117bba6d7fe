"""The learning rate against a formula written another way."""

import cmath
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.config import OptimConfig
from train.schedule import learning_rate


def expected(lr, ratio, warmup, steps, step):
    """Warm-up as a share of the peak; after it, half the distance to the floor times 1 + Re e^{iπp}."""
    if step <= warmup:
        return lr * (step / warmup)
    floor = ratio * lr
    turn = cmath.exp(1j * math.pi * (step - warmup) / (steps - warmup)).real
    return floor + (lr - floor) / 2 * (1 + turn)


STEPS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


@given(st.floats(1e-6, 1.0), st.floats(0.0, 1.0), STEPS)
def test_every_step(lr, ratio, numbers):
    steps, warmup, step = numbers
    optim = OptimConfig(lr=lr, min_lr_ratio=ratio, warmup_steps=warmup)
    assert learning_rate(optim, step, steps) == pytest.approx(expected(lr, ratio, warmup, steps, step), rel=1e-9, abs=1e-15)


def test_warm_up_starts_above_zero_and_ends_at_the_peak():
    optim = OptimConfig(lr=0.5, warmup_steps=4)
    assert [learning_rate(optim, step, 100) for step in (1, 2, 3, 4)] == [0.125, 0.25, 0.375, 0.5]


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 1.0])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 7), (1, 6), (15, 150), (1000, 10000)])
def test_the_cosine_ends_exactly_at_the_floor(ratio, warmup, steps):
    optim = OptimConfig(lr=1e-3, min_lr_ratio=ratio, warmup_steps=warmup)
    assert learning_rate(optim, steps, steps) == 1e-3 * ratio


def test_after_warm_up_it_only_falls():
    optim = OptimConfig(lr=1.0, warmup_steps=10, min_lr_ratio=0.1)
    rates = [learning_rate(optim, step, 100) for step in range(10, 101)]
    assert rates == sorted(rates, reverse=True) and rates[0] == 1.0


def test_warm_up_over_the_whole_run_never_falls():
    optim = OptimConfig(lr=1.0, warmup_steps=5)
    assert [learning_rate(optim, step, 5) for step in range(1, 6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
