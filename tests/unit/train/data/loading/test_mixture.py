"""Shares: exact in every block, and every source read without gap or repetition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from train.config.shares import FINEST, whole_shares
from train.data.loading.mixture import Shares
from train.errors import UserError


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ([1.0], [1]),
        ([0.7, 0.3], [7, 3]),
        ([3, 1], [3, 1]),
        ([1, 1, 1], [1, 1, 1]),
        ([0.5, 0.25, 0.25], [2, 1, 1]),
        ([70, 30], [7, 3]),
        ([1e-3, 1], [1, 1000]),
    ],
)
def test_weights_become_the_smallest_whole_numbers(weights, counts):
    assert whole_shares(weights) == counts


def test_shares_finer_than_a_millionth_are_rounded():
    counts = whole_shares([1 / 3, 1 / 7, 0.1234567891])
    exact = np.array([1 / 3, 1 / 7, 0.1234567891])
    assert sum(counts) == FINEST
    assert np.abs(np.array(counts) - exact / exact.sum() * FINEST).max() <= 1
    with pytest.raises(UserError, match="less than a millionth"):
        whole_shares([1.0, 1e-9])


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    weights=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    seed=st.integers(0, 2**64),
    start=st.integers(0, 10**9),
)
def test_every_block_is_exact_and_every_source_is_read_in_turn(weights, seed, start):
    shares = Shares(weights)
    block = int(shares.counts.sum())
    first = start * block
    sources, numbers = shares.draw(seed, np.arange(first, first + 5 * block))
    for at in range(5):
        assert (
            np.bincount(sources[at * block : (at + 1) * block], minlength=len(weights)).tolist()
            == shares.counts.tolist()
        )
    for source, count in enumerate(shares.counts):
        assert sorted(numbers[sources == source]) == list(range(start * count, (start + 5) * count))


def test_a_position_does_not_depend_on_the_others():
    shares = Shares([0.7, 0.2, 0.1])
    whole = shares.draw(3, np.arange(1000))
    for at in (0, 1, 17, 999):
        alone = shares.draw(3, np.array([at]))
        assert (alone[0][0], alone[1][0]) == (whole[0][at], whole[1][at])


def test_sources_are_mixed_within_a_block():
    sources, _ = Shares([500, 500]).draw(1, np.arange(1000))
    assert np.abs(np.diff(sources)).sum() >= 1
    sources, _ = Shares([0.501, 0.499]).draw(1, np.arange(1000))
    assert 400 < np.abs(np.diff(sources)).sum() < 600
