"""What a range test says of curves whose shape is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from train.errors import UserError
from train.experiments.lr_range.plot import write_range_plot
from train.experiments.lr_range.reading import in_words, read_range

RATES = list(np.geomspace(1e-6, 1.0, 601))


def valley(rate: float) -> float:
    """A fall around 1e-4, a bottom at 1e-2, a rise beyond."""
    x = math.log10(rate)
    return 3 - 2 / (1 + math.exp(-4 * (x + 4))) + 0.3 * max(0.0, x + 2) ** 2


def test_the_least_and_the_steepest_of_a_valley():
    reading = read_range(RATES, [valley(rate) for rate in RATES])
    # the mean reaches 24 steps to each side, a factor of 1.7 here, and the rise is the steeper side
    assert reading.steepest == pytest.approx(1e-4, rel=0.1)
    assert 1e-2 / 1.7 < reading.least < 1e-2 * 1.7
    assert reading.suggested == reading.least / 10
    assert reading.whole
    assert "go further" not in in_words(reading)


def test_it_ends_where_the_loss_diverges():
    losses = [valley(rate) if rate < 0.1 else 100 * rate for rate in RATES]
    reading = read_range(RATES, losses)
    assert reading.rates[-1] < 0.2 and max(reading.smoothed) < 4 * min(reading.smoothed)
    for wrong in (float("nan"), float("inf")):
        losses = [valley(rate) if rate < 0.1 else wrong for rate in RATES]
        assert 0.097 < read_range(RATES, losses).rates[-1] < 0.1


def test_noise_of_single_steps_decides_nothing():
    generator = np.random.default_rng(0)
    losses = [valley(rate) + generator.normal(0, 0.02) for rate in RATES]
    losses[30] = 0.9  # below every other
    reading = read_range(RATES, losses)
    assert 3e-3 < reading.least < 5e-2


def test_a_loss_that_still_falls_asks_for_more():
    reading = read_range(RATES[:350], [valley(rate) for rate in RATES[:350]])
    assert not reading.whole
    assert "still falling at the last rate, 0.0031: go further with --to" in in_words(reading)


def test_too_few_steps_are_told():
    with pytest.raises(UserError, match=r"diverged after 1 steps.*begin lower, --from"):
        read_range(RATES[:20], [1.0, *[float("nan")] * 19])


def test_the_picture(tmp_path):
    reading = read_range(RATES, [valley(rate) for rate in RATES])
    write_range_plot(tmp_path / "range.png", reading, "toy")
    assert (tmp_path / "range.png").read_bytes().startswith(b"\x89PNG")
