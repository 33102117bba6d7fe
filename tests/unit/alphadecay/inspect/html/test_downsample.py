"""Long curves are cut short without losing what stands out in them."""

import random

import pytest

from alphadecay.inspect.html.downsample import extremes, stretches


def test_a_short_curve_is_left_whole():
    assert extremes([1.0, None, 3.0], most=3) == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_a_long_one_keeps_its_ends_its_extremes_and_a_gap(seed):
    chance = random.Random(seed)
    values = [chance.random() for _ in range(10_000)]
    spike, dip, gap = chance.sample(range(1, 9_999), 3)
    values[spike] = 50.0
    values[dip] = -50.0
    values[gap] = None
    kept = extremes(values, most=300)
    assert len(kept) <= 302 and kept == sorted(set(kept))
    assert {0, 9_999, spike, dip, gap} <= set(kept)


def test_every_stretch_of_the_curve_keeps_its_range():
    values = [float(i % 97) for i in range(5_000)]
    kept = set(extremes(values, most=300))
    for stretch in (range(i * 50, (i + 1) * 50) for i in range(100)):
        inside = [values[i] for i in stretch if i in kept]
        assert (min(inside), max(inside)) == (
            min(values[i] for i in stretch),
            max(values[i] for i in stretch),
        )


@pytest.mark.parametrize("count", [0, 1, 299, 300, 301, 1000, 12_345])
def test_stretches_hold_every_index_once(count):
    parts = stretches(count, most=300)
    assert [i for stretch in parts for i in stretch] == list(range(count)) and len(parts) <= 300
