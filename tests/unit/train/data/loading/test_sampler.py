"""Batches: a function of (seed, k), the same rows for any world size and micro batch, packed,
padded and mixed.
"""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from train.data.loading.memmap import SplitCounts, TokenFile
from train.data.loading.micro_batch import MicroBatch
from train.data.loading.order import rows_at
from train.data.loading.rows import IGNORED, open_rows
from train.data.loading.sampler import Batches, validation_rows
from train.errors import UserError

L = 8
SPLITS = list(itertools.product((1, 2, 4), (1, 2, 4)))  # world size, micro batch


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_folder):
    lengths = [1, 2, 5, 6, 7, 8, 9, 30, 3, 4, 12] * 4
    documents = [
        list(range(100 * at, 100 * at + length)) for at, length in enumerate(lengths, start=1)
    ]
    return write_folder(
        tmp_path_factory.mktemp("a") / "p", documents, [list(range(2000, 2044)), [1, 2], [3]]
    )


@pytest.fixture(scope="module")
def other(tmp_path_factory, write_folder):
    documents = [[50_000 + at] * (at % 11 + 1) for at in range(25)]
    return write_folder(tmp_path_factory.mktemp("b") / "p", documents, [list(range(3000, 3040))])


@pytest.fixture(scope="module")
def make(folder, other):
    """make(form, seed) is batches of 16 rows; the form "mixed" takes two padded sources three to
    one.
    """

    def batches(form: str, seed: int = 1, global_batch: int = 16) -> Batches:
        if form == "mixed":
            both = [open_rows(TokenFile(each, "train"), L, "padded") for each in (folder, other)]
            return Batches(both, seed, global_batch, [0.75, 0.25], ["a", "b"])
        return Batches([open_rows(TokenFile(folder, "train"), L, form)], seed, global_batch)  # type: ignore[arg-type]

    return batches


def in_global_order(
    batches: Batches, k: int, world_size: int, micro_batch: int
) -> tuple[Tensor, Tensor, list[MicroBatch]]:
    ranks = [batches.batch(k, rank, world_size, micro_batch) for rank in range(world_size)]
    micros = [micro for steps in zip(*ranks, strict=True) for micro in steps]
    for micro in micros:
        shapes = {name: value.shape for name, value in micro.inputs.items()}
        assert shapes == dict.fromkeys(("input_ids", "labels"), (micro_batch, L))
    return (
        torch.cat([micro.inputs["input_ids"] for micro in micros]),
        torch.cat([micro.inputs["labels"] for micro in micros]),
        micros,
    )


@pytest.mark.parametrize("form", ["packed", "padded", "mixed"])
@hypothesis_settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**63), k=st.integers(0, 10**7))
def test_any_world_size_and_micro_batch_sees_the_same_global_batch(make, form, seed, k):
    batches = make(form, seed)
    tokens, labels, _ = in_global_order(batches, k, 1, 16)
    for world_size, micro_batch in SPLITS:
        again_tokens, again_labels, micros = in_global_order(batches, k, world_size, micro_batch)
        assert torch.equal(again_tokens, tokens) and torch.equal(again_labels, labels)
        assert sum(micro.scale for micro in micros) / len(micros) == pytest.approx(
            _mean_scale(micros), rel=1e-12
        )
    assert batches.tokens(k) == int((labels != IGNORED).sum())


def _mean_scale(micros: list[MicroBatch]) -> float:
    """What the scales must average to, from the labels alone."""
    counts = [int((micro.inputs["labels"][:, 1:] != IGNORED).sum()) for micro in micros]
    mean = sum(counts) / len(counts)
    for micro, count in zip(micros, counts, strict=True):
        assert micro.scale == pytest.approx(count / mean, rel=1e-12)
    return 1.0


def test_scaled_means_average_to_the_mean_over_all_tokens(make):
    """Whatever the loss of a token is: here its own number."""
    batches = make("padded")
    _, labels, _ = in_global_order(batches, 5, 1, 16)
    exact = labels[:, 1:][labels[:, 1:] != IGNORED].double().mean()
    plain = []
    for world_size, micro_batch in SPLITS:
        _, _, micros = in_global_order(batches, 5, world_size, micro_batch)
        means = torch.stack(
            [
                micro.inputs["labels"][:, 1:][micro.inputs["labels"][:, 1:] != IGNORED]
                .double()
                .mean()
                for micro in micros
            ]
        )
        scales = torch.tensor([micro.scale for micro in micros], dtype=torch.float64)
        assert float((means * scales).mean()) == pytest.approx(float(exact), rel=1e-12)
        plain.append(float(means.mean()))
    # without the scales they differ
    assert len(set(plain)) == len(plain) or max(plain) - min(plain) > 1e-3 * float(exact)


def test_packed_rows_are_not_scaled(make):
    assert {micro.scale for micro in make("packed").batch(3, 1, 2, 2)} == {1.0}


def test_batches_of_one_source_follow_its_order(make, folder):
    batches = make("packed", seed=9)
    windows = torch.from_numpy(TokenFile(folder, "train").tokens.astype("int64"))
    windows = windows[: len(windows) // L * L].reshape(-1, L)
    for k in (0, 1, 7):
        [micro] = batches.batch(k, 0, 1, 16)
        assert torch.equal(
            micro.inputs["input_ids"],
            windows[rows_at(9, torch.arange(16 * k, 16 * k + 16).numpy(), len(windows))],
        )
        assert torch.equal(micro.inputs["labels"], micro.inputs["input_ids"])


def test_a_mixture_takes_its_share_of_each_source_and_all_of_each(make, other):
    batches = make("mixed", global_batch=16)
    which = [batches.rows(k)[0] for k in range(100)]
    # blocks of four divide a batch of sixteen
    assert all((sources == 1).sum() == 4 for sources in which)
    rows = [
        row for k in range(100) for source, row in zip(*batches.rows(k), strict=True) if source == 1
    ]
    for epoch in range(16):  # 25 documents in the other source, 4 of them a batch
        assert sorted(rows[25 * epoch : 25 * epoch + 25]) == list(range(25))
    first = batches.batch(0, 0, 1, 16)[0].inputs["input_ids"]
    assert int((first >= 50_000).any(dim=1).sum()) == 4


def test_sources_have_orders_of_their_own(folder):
    rows = open_rows(TokenFile(folder, "train"), L, "padded")
    batches = Batches([rows, rows], 1, 16, [1, 1], ["a", "b"])
    drawn: list[list[int]] = [[], []]
    for k in range(5):
        for source, row in zip(*batches.rows(k), strict=True):
            drawn[source].append(int(row))
    assert drawn[0][:30] != drawn[1][:30]


def test_a_batch_that_does_not_divide(make):
    batches = make("packed", global_batch=12)
    with pytest.raises(
        UserError, match=r"run.global_batch 12 is not a multiple of run.micro_batch 4 x 2 ranks = 8"
    ):
        batches.batch(0, 0, 2, 4)
    with pytest.raises(ValueError, match="rank 2"):
        batches.batch(0, 2, 2, 3)
    with pytest.raises(ValueError, match="batch -1"):
        batches.batch(-1, 0, 1, 4)


@pytest.mark.parametrize(
    ("max_tokens", "rows"), [(0, 6), (1_000, 6), (48, 6), (40, 5), (39, 4), (8, 1), (1, 1)]
)
def test_validation_rows_are_the_first_ones(folder, max_tokens, rows):
    found = validation_rows([open_rows(TokenFile(folder, "validation"), L, "packed")], max_tokens)
    assert torch.equal(
        found.tokens,
        torch.from_numpy(
            TokenFile(folder, "validation").tokens[: L * rows].astype("int64")
        ).reshape(rows, L),
    )
    assert found.labels is found.tokens  # one copy of the rows


def test_validation_of_a_mixture_takes_each_by_weight(folder, other):
    both = [open_rows(TokenFile(each, "validation"), L, "packed") for each in (folder, other)]
    found = validation_rows(both, 32, [3, 1])
    assert found.tokens[:, 0].tolist() == [2000, 2008, 2016, 3000]
    assert found.labels is found.tokens
    assert len(validation_rows(both, 0, [3, 1]).tokens) == 6 + 5


def test_validation_of_padded_rows_counts_real_tokens(folder):
    rows = open_rows(TokenFile(folder, "validation"), L, "padded")  # 8 (cut), 3 and 2 real tokens
    assert [len(validation_rows([rows], most).tokens) for most in (1, 8, 10, 11, 12, 13, 0)] == [
        1,
        1,
        1,
        2,
        2,
        3,
        3,
    ]


def test_a_split_without_a_row(folder):
    with pytest.raises(UserError, match="fewer than one row"):
        open_rows(TokenFile(folder, "train"), 404, "packed")


@pytest.mark.parametrize("form", ["packed", "padded"])
def test_batches_of_a_growing_source_are_those_of_the_whole(folder, form):
    """Of 44 documents and 43 packed rows, in blocks of six: whatever is there, no batch changes."""
    whole = TokenFile(folder, "train")
    batches = Batches([open_rows(whole, L, form)], 3, 4, block_rows=6)
    held = []
    for documents in range(3, 45, 5):
        counts = SplitCounts(documents, int(whole.ends[documents - 1]))
        part = TokenFile(folder, "train", dataclasses.replace(whole.meta, train=counts))
        growing = Batches([open_rows(part, L, form)], 3, 4, block_rows=6, complete=False)
        there = [k for k in range(20) if growing.holds(k)]
        rows = len(open_rows(part, L, form)) // 6 * 6
        assert there == list(range(rows // 4))
        held.append(len(there))
        for k in there:
            ours, theirs = growing.batch(k, 0, 1, 4)[0], batches.batch(k, 0, 1, 4)[0]
            assert_close(ours, theirs, rtol=0, atol=0)
    assert held[0] < held[-1] < 20
    growing.grow(open_rows(whole, L, form), complete=True)
    for k in range(20):  # over the end of the epoch
        assert growing.holds(k)
        ours, theirs = growing.batch(k, 0, 1, 4)[0], batches.batch(k, 0, 1, 4)[0]
        assert_close(ours.inputs, theirs.inputs, rtol=0, atol=0)


def test_batches_in_blocks_are_the_same_for_any_ranks(folder):
    batches = Batches([open_rows(TokenFile(folder, "train"), L, "packed")], 3, 16, block_rows=6)
    for k in (0, 2, 7):
        tokens, _, _ = in_global_order(batches, k, 1, 16)
        for world_size, micro_batch in SPLITS:
            assert torch.equal(in_global_order(batches, k, world_size, micro_batch)[0], tokens)
