"""Computes the order in which rows are read: every epoch is a permutation of its own.

It is one of all rows, or one that keeps to blocks of them, so that the first blocks can be read
before the others are there. Any position's row is computed without the others.

Shapes: n positions asked for, R rows of a token file, S rows of a block.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
ROUNDS = 8  # of the Feistel network; four already look random, the rest is cheap
MASK_64 = (1 << 64) - 1


def rows_at(seed: int, positions: Int64s, num_rows: int) -> Int64s:
    """Return the row numbers at positions of an endless reading, every epoch in a fresh order.

    Args:
        seed: of the order of the data.
        positions: int64 [n], each at least 0.
        num_rows: rows in the file, R.

    Returns:
        int64 [n], each in [0, R).
    """
    epochs, offsets = np.divmod(positions, num_rows)
    return permute(seed, epochs, offsets, num_rows)


def rows_in_blocks(seed: int, positions: Int64s, num_rows: int, block_rows: int) -> Int64s:
    """Return the row numbers at positions of an endless reading that keeps to blocks.

    An epoch reads block after block, each in a fresh order. Blocks are S rows in a row, the last
    one what is left. So in the first epoch a whole block's rows are the same however many rows come
    after it.

    Args:
        seed: of the order of the data.
        positions: int64 [n], each at least 0.
        num_rows: rows in the file, R.
        block_rows: S.

    Returns:
        int64 [n], each in [0, R).
    """
    epochs, places = np.divmod(positions, num_rows)
    blocks, offsets = np.divmod(places, block_rows)
    keys = (epochs << 32) + blocks
    whole = num_rows // block_rows
    rows = blocks * block_rows
    for chosen, size in ((blocks < whole, block_rows), (blocks == whole, num_rows % block_rows)):
        if chosen.any():
            rows[chosen] += permute(seed, keys[chosen], offsets[chosen], size)
    return rows


def permute(seed: int, epochs: Int64s, offsets: Int64s, num_rows: int) -> Int64s:
    """Map each offset in [0, R) to a row in [0, R), one bijection per (seed, epoch).

    Takes O(1) memory.

    Args:
        seed: of the whole run.
        epochs: int64 [n].
        offsets: int64 [n].
        num_rows: R.

    Returns:
        int64 [n].
    """
    # A balanced Feistel network permutes [0, 4**half_bits). Values that land outside [0, R) walk on
    # along their cycle until they are inside again, which keeps it a bijection of [0, R);
    # 4**half_bits <= 4R, so a walk takes at most four steps on average.
    half_bits = max(1, -(-(num_rows - 1).bit_length() // 2))
    epoch_keys = _mix(_mix(np.full(1, seed & MASK_64, dtype=np.uint64)) ^ epochs.astype(np.uint64))
    values = _feistel(offsets.astype(np.uint64), epoch_keys, half_bits)
    while (outside := np.flatnonzero(values >= np.uint64(num_rows))).size:
        values[outside] = _feistel(values[outside], epoch_keys[outside], half_bits)
    return values.astype(np.int64)


def _feistel(values: UInt64s, keys: UInt64s, half_bits: int) -> UInt64s:
    shift = np.uint64(half_bits)
    mask = np.uint64((1 << half_bits) - 1)
    left = values >> shift
    right = values & mask
    for index in range(ROUNDS):
        round_keys = _mix(keys + np.uint64(index + 1))
        left, right = right, left ^ (_mix(right ^ round_keys) & mask)
    return (left << shift) | right


def _mix(values: UInt64s) -> UInt64s:
    """Finalise as splitmix64 does: a cheap hash of 64 bits, whose arithmetic wraps."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
