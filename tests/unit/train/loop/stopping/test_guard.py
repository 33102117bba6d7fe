"""Counting skipped steps, noticing spikes, and a loss that makes its gradients tell of it."""

import math
import random
import statistics

import pytest
import torch

from train.loop.stopping.guard import (
    EXPERIENCE,
    LossSpikeDetector,
    SkippedSteps,
    poison_nonfinite_loss,
)


def test_so_many_in_a_row():
    skips = SkippedSteps(limit=3)
    told = [skips.note(skipped) for skipped in (True, True, False, True, True, True, False)]
    assert told == [False, False, False, False, False, True, False]
    assert (skips.total, skips.in_a_row) == (5, 0)


def test_no_limit():
    skips = SkippedSteps(limit=0)
    assert not any(skips.note(True) for _ in range(1000)) and skips.total == 1000


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_loss_that_is_not_finite_has_no_finite_gradient(bad):
    weight = torch.ones(3, requires_grad=True)
    poison_nonfinite_loss(weight.sum() + bad).backward()  # without it the gradient is 1
    assert weight.grad.isnan().all()


def test_a_finite_loss_is_left_as_it_is():
    for dtype in (torch.float32, torch.bfloat16):
        one, two = (torch.arange(1.0, 5.0, dtype=dtype).requires_grad_() for _ in range(2))
        loss = one.log().sum()
        guarded = poison_nonfinite_loss(two.log().sum())
        assert guarded.dtype == dtype and torch.equal(loss, guarded)
        loss.backward()
        guarded.backward()
        assert torch.equal(one.grad, two.grad)


def noise(count, seed=0):
    chance = random.Random(seed)
    return [3.0 + 0.1 * chance.gauss(0, 1) for _ in range(count)]


def test_quiet_losses_are_no_spikes_and_a_spike_is_one():
    spikes = LossSpikeDetector(threshold=6.0)
    assert not any(spikes.note(loss) for loss in noise(400))
    assert spikes.note(3.0 + 0.5) == 0.0
    assert spikes.note(5.0) > 6.0
    assert spikes.note(1.0) == 0.0  # a sudden fall is none


def test_mean_and_deviation_are_the_statistics_of_the_last_losses():
    spikes = LossSpikeDetector(threshold=6.0)
    losses = noise(2000)
    for loss in losses:
        spikes.note(loss)
    assert spikes.mean == pytest.approx(statistics.mean(losses[-100:]), abs=0.04)
    assert math.sqrt(spikes.variance) == pytest.approx(statistics.stdev(losses[-200:]), rel=0.25)


def test_one_outlier_does_not_hide_the_next():
    spikes = LossSpikeDetector(threshold=6.0)
    for loss in noise(200):
        spikes.note(loss)
    assert spikes.note(300.0) and spikes.note(5.0)


def test_a_lasting_rise_is_accepted():
    spikes = LossSpikeDetector(threshold=6.0)
    for loss in noise(200):
        spikes.note(loss)
    told = [bool(spikes.note(loss + 3.0)) for loss in noise(400, seed=1)]
    assert told[0] and not any(told[-100:])


def test_silent_before_experience_off_and_for_nan():
    early = LossSpikeDetector(6.0)
    off = LossSpikeDetector(0.0)
    ill = LossSpikeDetector(6.0)
    assert not any(early.note(loss) for loss in [*noise(EXPERIENCE - 1), 1e9])
    assert not any(off.note(loss) for loss in [*noise(100), 1e9])
    before = [ill.note(loss) for loss in noise(100)] and ill.state_dict()
    assert not ill.note(math.nan) and not ill.note(math.inf) and ill.state_dict() == before


def test_a_resumed_one_goes_on():
    whole = LossSpikeDetector(6.0)
    first = LossSpikeDetector(6.0)
    second = LossSpikeDetector(6.0)
    losses = [*noise(150), 9.0, *noise(50)]
    expected = [whole.note(loss) for loss in losses]
    told = [first.note(loss) for loss in losses[:70]]
    second.load_state_dict(first.state_dict())
    assert told + [second.note(loss) for loss in losses[70:]] == expected and any(expected)
