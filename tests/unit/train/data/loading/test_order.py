"""The order of the data: a bijection per epoch, the same for good."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from train.data.loading.order import rows_at, rows_in_blocks

SIZES = [
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    15,
    16,
    17,
    31,
    63,
    64,
    65,
    97,
    255,
    256,
    257,
    1000,
    1021,
    4096,
    10_007,
    65_537,
]


def epoch(seed: int, number: int, size: int) -> np.ndarray:
    return rows_at(seed, np.arange(number * size, (number + 1) * size), size)


@pytest.mark.parametrize("size", SIZES)
def test_an_epoch_reads_every_row_once(size):
    for seed, number in [(0, 0), (1, 5), (-3, 2), (2**63, 1)]:
        assert np.array_equal(np.sort(epoch(seed, number, size)), np.arange(size))


@hypothesis_settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**64), number=st.integers(0, 10**6))
def test_any_size_seed_and_epoch_is_a_bijection(size, seed, number):
    assert np.array_equal(np.sort(epoch(seed, number, size)), np.arange(size))


def test_epochs_and_seeds_differ():
    orders = [epoch(seed, number, 1021) for seed in range(3) for number in range(3)]
    for index, first in enumerate(orders):
        assert (first == np.arange(1021)).mean() < 0.02
        for second in orders[index + 1 :]:
            assert (first == second).mean() < 0.02


def test_the_order_is_not_visibly_ordered():
    order = epoch(42, 0, 10_007)
    assert abs(np.corrcoef(np.arange(10_007), order)[0, 1]) < 0.05
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05


@pytest.mark.parametrize(("batch", "size"), [(4, 10), (7, 10), (25, 10), (5, 1), (64, 1000)])
def test_batches_are_consecutive_pieces_of_one_endless_reading(batch, size):
    endless = np.concatenate([epoch(9, number, size) for number in range(30 * batch // size + 1)])
    for k in range(30):
        rows = rows_at(9, np.arange(k * batch, (k + 1) * batch), size)
        assert rows.dtype == np.int64
        assert np.array_equal(rows, endless[k * batch : (k + 1) * batch])


def test_the_order_is_fixed_for_good():
    """A change here would make resumed runs read other text than they were started with."""
    assert rows_at(42, np.arange(8), 1000).tolist() == [212, 301, 733, 418, 768, 528, 831, 508]


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 600),
    block=st.integers(1, 100),
    seed=st.integers(0, 2**64),
    number=st.integers(0, 10**6),
)
def test_an_epoch_in_blocks_reads_block_after_block(size, block, seed, number):
    rows = rows_in_blocks(seed, np.arange(number * size, (number + 1) * size), size, block)
    for start in range(0, size, block):
        end = min(start + block, size)
        assert np.array_equal(np.sort(rows[start:end]), np.arange(start, end))


def test_whole_blocks_of_the_first_epoch_do_not_depend_on_what_follows():
    positions = np.arange(3 * 64)
    rows = rows_in_blocks(5, positions, 3 * 64, 64)
    for size in (3 * 64 + 1, 4 * 64, 1000):
        assert np.array_equal(rows_in_blocks(5, positions, size, 64), rows)


def test_blocks_and_their_epochs_have_orders_of_their_own():
    orders = rows_in_blocks(3, np.arange(4 * 1021), 2 * 1021, 1021) % 1021
    orders = orders.reshape(4, 1021)  # two epochs of two blocks
    for index, first in enumerate(orders):
        assert (first == np.arange(1021)).mean() < 0.02
        for second in orders[index + 1 :]:
            assert (first == second).mean() < 0.02


def test_the_order_in_blocks_is_fixed_for_good():
    positions = np.array([0, 1, 2, 99, 100, 101, 999, 1000, 1001, 2003])
    expected = [55, 76, 16, 77, 129, 169, 957, 26, 17, 16]
    assert rows_in_blocks(42, positions, 1000, 100).tolist() == expected
