"""Where the pieces of a sharded parameter lie."""

from __future__ import annotations

import pytest
import torch

from alphadecay.sharding.layout import block_rows, overlap, piece_sizes, slice_elements


@pytest.mark.parametrize(("rows", "shards"), [(7, 4), (8, 4), (3, 8), (1, 1), (9, 2)])
def test_blocks_are_those_of_torch_chunk(rows: int, shards: int) -> None:
    chunks = [len(chunk) for chunk in torch.arange(rows).chunk(shards)]
    sizes = piece_sizes((0, rows), block_rows(rows, shards), shards)
    assert sizes.tolist() == chunks + [0] * (shards - len(chunks))


@pytest.mark.parametrize("flat_range", [(0, 23), (5, 17), (0, 1), (22, 23), (9, 9)])
@pytest.mark.parametrize("shards", [1, 2, 5, 31])
def test_the_pieces_of_a_range_are_the_elements_that_each_rank_holds(
    flat_range: tuple[int, int], shards: int
) -> None:
    size = slice_elements(23, shards)
    wanted = torch.zeros(size * shards, dtype=torch.bool)
    wanted[slice(*flat_range)] = True
    held = wanted.view(shards, size)
    assert piece_sizes(flat_range, size, shards).tolist() == held.sum(1).tolist()
    for shard in range(shards):
        start, stop = overlap(flat_range, size, shard)
        inside = torch.zeros_like(wanted)
        inside[start:stop] = True
        assert torch.equal(inside, wanted & (torch.arange(size * shards) // size == shard))
