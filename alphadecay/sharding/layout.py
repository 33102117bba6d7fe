"""Where the pieces of a sharded parameter lie, as numbers alone: for the backends, which have the
tensors, and for plans, which have none.

ZeRO-3 gives every rank a slice of the flattened parameter, FSDP2 a block of its rows; either way a
rank holds `size` elements, the last of those that hold any fewer, and ranks behind it none.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def overlap(flat_range: tuple[int, int], size: int, shard: int) -> tuple[int, int]:
    """Return the part [start, stop) of a range of the flattened parameter that a rank holds.

    Where it holds nothing of it, both are where its elements begin.

    Args:
        flat_range: [start, stop) of the flattened parameter.
        size: elements of every rank that is full.
        shard: the rank.
    """
    first = shard * size
    low = max(flat_range[0], first)
    high = min(flat_range[1], first + size)
    return (low, high) if high > low else (first, first)


def block_rows(rows: int, shards: int) -> int:
    """Return the rows of a full rank where `torch.chunk` cuts them."""
    return -(-rows // shards)


def slice_elements(elements: int, shards: int) -> int:
    """Return the elements of a rank under ZeRO-3, the padding of the last among them."""
    return -(-elements // shards)


@lru_cache(maxsize=4096)
def piece_sizes(flat_range: tuple[int, int], size: int, shards: int) -> NDArray[np.int64]:
    """Return how many elements of a range each rank holds: `overlap` of all ranks at once.

    Args:
        flat_range: [start, stop) of the flattened parameter.
        size: elements of every rank that is full.
        shards: how many ranks share the parameter.
    """
    first = np.arange(shards, dtype=np.int64) * size
    low = np.maximum(first, flat_range[0])
    high = np.minimum(first + size, flat_range[1])
    sizes = np.maximum(high - low, 0)
    sizes.setflags(write=False)  # it is handed out again
    return sizes
