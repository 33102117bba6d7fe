"""Which rows make batch k: a pure function of (seed, k), so a resumed run needs no loader state and any world size sees the same tokens.

Shapes: B rows of a global batch, M rows of a micro batch, L tokens of a row, R rows of a token file.
Rows are windows of L tokens that do not overlap; the last, incomplete one is left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from train.data.memmap import TokenFile
from train.errors import UserError

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
ROUNDS = 8  # of the Feistel network; four already look random, the rest is cheap
MASK_64 = (1 << 64) - 1


def rows_of_batch(seed: int, k: int, global_batch: int, num_rows: int) -> Int64s:
    """Row numbers of batch k: positions k*B .. k*B + B-1 of an endless reading, every epoch of it in a fresh order.

    Args:
        seed: run.seed.
        k: number of the batch, 0-based.
        global_batch: rows per optimizer step over all ranks, B.
        num_rows: rows in the training file, R.

    Returns:
        int64 [B], each in [0, R). A batch may span epochs.
    """
    if num_rows < 1 or global_batch < 1 or k < 0:
        raise ValueError(f"rows_of_batch: k={k}, global_batch={global_batch}, num_rows={num_rows}; need k >= 0 and both others >= 1")
    positions = np.arange(k * global_batch, (k + 1) * global_batch, dtype=np.int64)
    epochs, offsets = np.divmod(positions, num_rows)
    return permute(seed, epochs, offsets, num_rows)


def permute(seed: int, epochs: Int64s, offsets: Int64s, num_rows: int) -> Int64s:
    """Map each offset in [0, R) to a row in [0, R), one bijection per (seed, epoch), in O(1) memory.

    Args:
        seed: of the whole run.
        epochs: int64 [n].
        offsets: int64 [n].
        num_rows: R.

    Returns:
        int64 [n].
    """
    # A balanced Feistel network permutes [0, 4**half_bits). Values that land outside [0, R) walk on along their cycle until they
    # are inside again, which keeps it a bijection of [0, R); 4**half_bits <= 4R, so a walk takes at most four steps on average.
    half_bits = max(1, -(-(num_rows - 1).bit_length() // 2))
    epoch_keys = _mix(_mix(np.full(1, seed & MASK_64, dtype=np.uint64)) ^ epochs.astype(np.uint64))
    values = _feistel(offsets.astype(np.uint64), epoch_keys, half_bits)
    while (outside := np.flatnonzero(values >= np.uint64(num_rows))).size:
        values[outside] = _feistel(values[outside], epoch_keys[outside], half_bits)
    return values.astype(np.int64)


def _feistel(values: UInt64s, keys: UInt64s, half_bits: int) -> UInt64s:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for index in range(ROUNDS):
        round_keys = _mix(keys + np.uint64(index + 1))
        left, right = right, left ^ (_mix(right ^ round_keys) & mask)
    return (left << shift) | right


def _mix(values: UInt64s) -> UInt64s:
    """The finaliser of splitmix64: a cheap hash of 64 bits (arithmetic wraps, as uint64 arrays do)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Batches:
    """Batches of a token file.

    Args:
        token_file: the training split.
        sequence_length: tokens in a row, L.
        seed: run.seed.
        global_batch: rows per optimizer step over all ranks, B.

    Raises:
        UserError: the file is shorter than one row.
    """

    def __init__(self, token_file: TokenFile, sequence_length: int, seed: int, global_batch: int) -> None:
        self._rows = rows_view(token_file, sequence_length)
        self.num_rows = len(self._rows)
        self.sequence_length = sequence_length
        self.seed = seed
        self.global_batch = global_batch

    def batch(self, k: int, rank: int, world_size: int, micro_batch: int) -> list[torch.Tensor]:
        """This rank's share of batch k, one tensor per accumulation step.

        The order is accumulation-major: row i of step a on rank r is row (a * world_size + r) * M + i of the global batch. So
        concatenating the ranks within each step, and then the steps, gives the same B rows for any world size and micro batch.

        Args:
            k: number of the batch, 0-based.
            rank: in [0, world_size).
            world_size: ranks that share the batch.
            micro_batch: rows per rank and forward pass, M.

        Returns:
            B / (world_size * M) int64 tensors [M, L].

        Raises:
            UserError: B is not a multiple of world_size * M.
        """
        if self.global_batch % (world_size * micro_batch):
            raise UserError(
                f"run.global_batch {self.global_batch} is not a multiple of run.micro_batch {micro_batch} x {world_size} ranks "
                f"= {world_size * micro_batch}; change one of them."
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not in [0, {world_size})")
        order = rows_of_batch(self.seed, k, self.global_batch, self.num_rows)
        mine = order.reshape(-1, world_size, micro_batch)[:, rank]
        return [torch.from_numpy(self._rows[rows].astype(np.int64)) for rows in mine]


def validation_rows(token_file: TokenFile, sequence_length: int, max_tokens: int) -> torch.Tensor:
    """The first rows of the validation split, the same whatever the world size.

    Args:
        token_file: the validation split.
        sequence_length: tokens in a row, L.
        max_tokens: tokens used, at most, but one row at least; 0 uses all.

    Returns:
        int64 [n, L].

    Raises:
        UserError: the file is shorter than one row.
    """
    rows = rows_view(token_file, sequence_length)
    count = min(len(rows), max(1, max_tokens // sequence_length)) if max_tokens else len(rows)
    return torch.from_numpy(rows[:count].astype(np.int64))


def rows_view(token_file: TokenFile, sequence_length: int) -> npt.NDArray[np.unsignedinteger]:
    """A token file as [R, L] without copying it. Raises UserError if R would be 0."""
    count = token_file.check_rows(sequence_length)
    return token_file.tokens[: count * sequence_length].reshape(count, sequence_length)
