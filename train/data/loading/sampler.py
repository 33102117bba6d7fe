"""Decides which rows make batch k.

That is a pure function of (seed, k), so a resumed run needs no loader state and any world size sees
the same tokens.

Shapes: B rows of a global batch, M rows of a micro batch, L tokens of a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from threading import Lock

import numpy as np
import torch

from train.data.loading.micro_batch import MicroBatch
from train.data.loading.mixture import Shares
from train.data.loading.order import Int64s, rows_at, rows_in_blocks
from train.data.loading.rows import Labelled, Rows, first_rows
from train.errors import UserError

RECENT = 8  # batches whose rows are kept at hand


class Batches:
    """Batches of one source of rows, or of several by weight.

    Args:
        sources: the training rows of each source, all of one length.
        seed: of the order of the data.
        global_batch: rows per optimizer step over all ranks, B.
        weights: share of rows from each source; None for a single one.
        names: of the sources; they decide each one's order, so that listing them otherwise changes
            only which row comes when.
        block_rows: rows of the blocks that the order keeps to; 0 shuffles all rows together.
        complete: whether the sources have all their rows. The rows of a source that has not, which
            is then the only one, are the first of them, and `grow` brings more.
    """

    def __init__(
        self,
        sources: Sequence[Rows],
        seed: int,
        global_batch: int,
        weights: Sequence[float] | None = None,
        names: Sequence[str] = ("",),
        block_rows: int = 0,
        complete: bool = True,
    ) -> None:
        self._sources = list(sources)
        self._shares = Shares(weights or [1.0] * len(sources))
        # Sources of equal size must not be read in the same order; a single one has the seed
        # itself.
        self._seeds = [seed ^ _salt(name) if len(sources) > 1 else seed for name in names]
        self.seed = seed
        self.global_batch = global_batch
        self.sequence_length = sources[0].sequence_length
        self.complete = complete
        self._block_rows = block_rows
        self._recent: dict[int, tuple[Int64s, Int64s, Int64s]] = {}
        self._lock = Lock()  # batches are read ahead by a thread while others count their tokens

    def holds(self, k: int) -> bool:
        """Return whether the rows of batch k are there, and cannot be others later."""
        if self.complete:
            return True
        whole_blocks = len(self._sources[0]) // self._block_rows
        return (k + 1) * self.global_batch <= whole_blocks * self._block_rows

    def grow(self, rows: Rows, complete: bool) -> None:
        """Take the only source's rows again, now that there are more of them.

        Args:
            rows: those from before, and more.
            complete: whether they are all.
        """
        self._sources[0] = rows
        self.complete = complete

    def rows(self, k: int) -> tuple[Int64s, Int64s]:
        """Return the source and the row number in it of every row of batch k, int64 [B] each.

        A batch may span epochs.
        """
        if k < 0:
            raise ValueError(f"batch {k}; the first is 0")
        positions = np.arange(k * self.global_batch, (k + 1) * self.global_batch, dtype=np.int64)
        sources, numbers = self._shares.draw(self.seed, positions)
        rows = np.empty_like(numbers)
        for index, (source, seed) in enumerate(zip(self._sources, self._seeds, strict=True)):
            drawn = sources == index
            rows[drawn] = self._order(seed, numbers[drawn], len(source))
        return sources, rows

    def _order(self, seed: int, numbers: Int64s, num_rows: int) -> Int64s:
        if self._block_rows:
            return rows_in_blocks(seed, numbers, num_rows, self._block_rows)
        return rows_at(seed, numbers, num_rows)

    def tokens(self, k: int) -> int:
        """Return the tokens of batch k over all ranks, fill not counted."""
        return int(self._counted(k)[2].sum())

    def batch(self, k: int, rank: int, world_size: int, micro_batch: int) -> list[MicroBatch]:
        """Return this rank's share of batch k, one micro batch for each accumulation step.

        The order is accumulation-major: row i of step a on rank r is row (a * world_size + r) * M +
        i of the global batch. So concatenating the ranks within each step, and then the steps,
        gives the same B rows for any world size and micro batch.

        Args:
            k: number of the batch, 0-based.
            rank: in [0, world_size).
            world_size: ranks that share the batch.
            micro_batch: rows per rank and forward pass, M.

        Returns:
            B / (world_size * M) micro batches: "input_ids" and "labels", int64 [M, L] each, -100
            where there is nothing to predict. `scale` weighs a mean over predicted tokens; it is 1
            for packed rows.

        Raises:
            UserError: B is not a multiple of world_size * M.
        """
        if self.global_batch % (world_size * micro_batch):
            raise UserError(
                f"run.global_batch {self.global_batch} is not a multiple of run.micro_batch "
                f"{micro_batch} x {world_size} ranks = {world_size * micro_batch}; change one of "
                "them."
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not in [0, {world_size})")
        sources, rows, real = self._counted(k)
        predicted = real - 1  # a row's first token is given, not predicted
        mean = predicted.sum() / (self.global_batch // micro_batch)

        def by_step(values: Int64s) -> Int64s:
            return values.reshape(-1, world_size, micro_batch)[:, rank]

        steps = zip(by_step(sources), by_step(rows), by_step(predicted), strict=True)
        return [
            _micro_batch(self._read(step_sources, step_rows), float(counts.sum() / mean))
            for step_sources, step_rows, counts in steps
        ]

    def _counted(self, k: int) -> tuple[Int64s, Int64s, Int64s]:
        """Return `rows` and their real tokens; recent batches are not drawn again."""
        with self._lock:
            drawn = self._recent.get(k)
        if drawn is None:
            sources, rows = self.rows(k)
            drawn = sources, rows, self._real_tokens(sources, rows)
            with self._lock:
                self._recent[k] = drawn
                while len(self._recent) > RECENT:
                    del self._recent[next(iter(self._recent))]
        return drawn

    def _real_tokens(self, sources: Int64s, rows: Int64s) -> Int64s:
        counts = np.empty_like(rows)
        for index in np.unique(sources):
            drawn = sources == index
            counts[drawn] = self._sources[index].real_tokens(rows[drawn])
        return counts

    def _read(self, sources: Int64s, rows: Int64s) -> Labelled:
        tokens = torch.empty((len(rows), self.sequence_length), dtype=torch.int64)
        labels = torch.empty_like(tokens)
        for index in np.unique(sources):
            drawn = sources == index
            at = torch.from_numpy(drawn)
            tokens[at], labels[at] = self._sources[index].read(rows[drawn])
        return Labelled(tokens, labels)


def validation_rows(
    sources: Sequence[Rows], max_tokens: int, weights: Sequence[float] | None = None
) -> Labelled:
    """Return the validation rows, the same whatever the world size.

    They are the first rows of every source, by its share of the tokens. With several sources there
    is one figure, the loss on the mixture that is trained on. Where a source has fewer tokens than
    its share, all of it is taken; `max_tokens` 0 takes all of every source.

    Args:
        sources: the validation rows of each source.
        max_tokens: real tokens used, at most, but one row of each source at least; 0 uses all.
        weights: as for Batches.
    """
    counts = Shares(weights or [1.0] * len(sources)).counts
    whole = int(counts.sum())
    limits = [max(1, max_tokens * int(count) // whole) if max_tokens else 0 for count in counts]
    parts = [first_rows(rows, limit) for rows, limit in zip(sources, limits, strict=True)]
    if len(parts) == 1:
        return parts[0]
    tokens = torch.cat([part.tokens for part in parts])
    if all(part.labels is part.tokens for part in parts):
        return Labelled(tokens, tokens)
    return Labelled(tokens, torch.cat([part.labels for part in parts]))


def _micro_batch(rows: Labelled, scale: float) -> MicroBatch:
    return MicroBatch({"input_ids": rows.tokens, "labels": rows.labels}, None, scale)


def _salt(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest(), "little")
