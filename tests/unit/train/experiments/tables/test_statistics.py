"""Means, spreads and intervals, against hand-made figures and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from train.experiments.tables.statistics import Difference, Spread, paired_difference, spread_of


def test_spread_of_some_of_one_and_of_none():
    spread = spread_of([31.0, 32.0, 36.0])
    assert spread.mean == 33.0 and spread.n == 3
    assert spread.sd == pytest.approx(math.sqrt((4 + 1 + 9) / 2), rel=1e-15)  # over n - 1
    assert spread_of([5.0]) == Spread(5.0, None, 1) and spread_of([]) is None


def test_differences_are_taken_seed_by_seed_over_shared_seeds():
    # Differences -1, -2, -2; sd 1/√3, so that the mean's is 1/3; t of two degrees is 4.302653.
    difference = paired_difference(
        {1: 10.0, 2: 12.0, 3: 11.0, 9: 0.0}, {1: 11.0, 2: 14.0, 3: 13.0, 4: 99.0}
    )
    assert difference.seeds == (1, 2, 3) and difference.side == -1
    assert (difference.mean, difference.low, difference.high) == pytest.approx(
        (-5 / 3, -5 / 3 - 4.3026527 / 3, -5 / 3 + 4.3026527 / 3), rel=1e-7
    )


def test_the_side_is_where_the_whole_interval_lies():
    assert Difference(-1.0, -2.0, -0.1, (1, 2)).side == -1
    assert Difference(-1.0, -2.1, 0.1, (1, 2)).side == 0
    assert Difference(1.0, 0.1, 2.0, (1, 2)).side == 1
    assert Difference(1.0, 0.0, 2.0, (1, 2)).side == 0


def test_one_seed_has_a_difference_and_no_interval():
    assert paired_difference({1: 10.0, 2: 7.0}, {2: 8.0}) == Difference(-1.0, None, None, (2,))
    assert paired_difference({1: 10.0}, {2: 8.0}) is None
    assert paired_difference({1: 10.0}, {2: 8.0, 1: 10.5}).side == 0


def test_equal_differences_have_an_interval_of_no_width():
    difference = paired_difference({1: 10.0, 2: 11.0}, {1: 10.5, 2: 11.5})
    assert (difference.low, difference.mean, difference.high, difference.side) == (
        -0.5,
        -0.5,
        -0.5,
        -1,
    )


# Two-sided 95 % points of Student's t, from any printed table.
PRINTED = {1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262, 29: 2.045}


@pytest.mark.parametrize("freedom", PRINTED)
def test_the_interval_reaches_as_far_as_a_printed_table_says(freedom):
    chance = np.random.default_rng(freedom)
    values = dict(enumerate(chance.normal(30, 1, freedom + 1).tolist()))
    difference = paired_difference(values, dict.fromkeys(values, 30.0))
    sd = float(np.std(list(values.values()), ddof=1))
    reach = PRINTED[freedom] * sd / math.sqrt(freedom + 1)
    assert difference.high - difference.mean == pytest.approx(reach, rel=3e-4)  # three decimals
    assert difference.mean - difference.low == pytest.approx(reach, rel=3e-4)


@pytest.mark.parametrize("count", [2, 3, 6, 11])
def test_the_interval_is_scipys(count):
    draws = np.random.default_rng(count).normal(30, 0.1, (2, count))
    ours, theirs = (dict(enumerate(row.tolist())) for row in draws)
    expected = stats.ttest_rel(*draws).confidence_interval(0.95)
    difference = paired_difference(ours, theirs)
    assert (difference.low, difference.high) == pytest.approx(
        (expected.low, expected.high), rel=1e-9
    )
