"""The order of the data: a bijection per epoch, a function of (seed, k), the same rows for any world size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from train.data.memmap import FORMAT_VERSION, FolderWriter, Meta, TokenFile
from train.data.sampler import Batches, rows_of_batch, validation_rows
from train.errors import UserError

SIZES = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 63, 64, 65, 97, 255, 256, 257, 1000, 1021, 4096, 10_007, 65_537]


def epoch(seed: int, number: int, size: int) -> np.ndarray:
    return rows_of_batch(seed, number, size, size)  # a batch as long as an epoch is that epoch


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
        rows = rows_of_batch(9, k, batch, size)
        assert rows.dtype == np.int64
        assert np.array_equal(rows, endless[k * batch : (k + 1) * batch])


def test_the_order_is_fixed_for_good():
    """A change here would make resumed runs read other text than they were started with."""
    assert rows_of_batch(42, 0, 8, 1000).tolist() == [212, 301, 733, 418, 768, 528, 831, 508]


def test_impossible_arguments():
    with pytest.raises(ValueError, match="num_rows=0"):
        rows_of_batch(0, 0, 4, 0)


@pytest.fixture
def folder(tmp_path):
    meta = Meta(FORMAT_VERSION, "uint16", 65000, 1, "", "", "")
    with FolderWriter(tmp_path / "p") as writer:
        writer.append("train", [list(range(1000, 1402))], meta)  # 403 tokens with eos: 50 rows of 8 and a rest
        writer.append("validation", [list(range(2000, 2044))], meta)
        return writer.commit(meta)


def test_rows_are_windows_that_do_not_overlap(folder):
    batches = Batches(TokenFile(folder, "train"), 8, seed=1, global_batch=50)
    assert batches.num_rows == 50
    [epoch_rows] = batches.batch(0, 0, 1, 50)
    assert epoch_rows.dtype == torch.int64 and epoch_rows.shape == (50, 8)
    in_order = epoch_rows[epoch_rows[:, 0].argsort()]
    assert torch.equal(in_order, torch.arange(1000, 1400).reshape(50, 8))


@pytest.mark.parametrize(("world_size", "micro_batch"), [(1, 12), (1, 3), (2, 6), (2, 1), (3, 2), (4, 3), (12, 1)])
def test_any_world_size_and_micro_batch_sees_the_same_global_batch(folder, world_size, micro_batch):
    batches = Batches(TokenFile(folder, "train"), 8, seed=1, global_batch=12)
    for k in (0, 3, 4, 100):  # 4 spans two epochs
        [whole] = batches.batch(k, 0, 1, 12)
        ranks = [batches.batch(k, rank, world_size, micro_batch) for rank in range(world_size)]
        assert all(step.shape == (micro_batch, 8) for steps in ranks for step in steps)
        assert torch.equal(torch.cat([step for steps in zip(*ranks, strict=True) for step in steps]), whole)


def test_a_batch_that_does_not_divide(folder):
    batches = Batches(TokenFile(folder, "train"), 8, seed=1, global_batch=12)
    with pytest.raises(UserError, match=r"run.global_batch 12 is not a multiple of run.micro_batch 4 x 2 ranks = 8"):
        batches.batch(0, 0, 2, 4)
    with pytest.raises(ValueError, match="rank 2"):
        batches.batch(0, 2, 2, 3)


@pytest.mark.parametrize(("max_tokens", "rows"), [(0, 5), (1_000, 5), (40, 5), (39, 4), (8, 1), (1, 1)])
def test_validation_rows_are_the_first_ones(folder, max_tokens, rows):
    found = validation_rows(TokenFile(folder, "validation"), 8, max_tokens)
    assert found.dtype == torch.int64
    assert torch.equal(found, torch.arange(2000, 2000 + 8 * rows).reshape(rows, 8))


def test_rows_longer_than_the_file(folder):
    with pytest.raises(UserError, match="fewer than one row"):
        Batches(TokenFile(folder, "train"), 404, seed=1, global_batch=2)
