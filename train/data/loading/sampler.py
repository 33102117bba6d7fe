"""Which rows make batch k: a pure function of (seed, k), so a resumed run needs no loader state and
any world size sees the same tokens.

Shapes: B rows of a global batch, M rows of a micro batch, L tokens of a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from train.data.loading.mixture import Shares
from train.data.loading.order import Int64s, rows_at
from train.data.loading.rows import Labelled, Rows, first_rows
from train.errors import UserError


class MicroBatch(NamedTuple):
    """One forward pass of one rank.

    Args:
        tokens: int64 [M, L].
        labels: int64 [M, L]; -100 where there is nothing to predict.
        scale: multiplies the mean loss over this micro batch's predicted tokens, so that the plain
            mean over all micro batches and ranks is the mean over all predicted tokens of the
            global batch. 1 for packed rows.
    """

    tokens: Tensor
    labels: Tensor
    scale: float


class Batches:
    """Batches of one source of rows, or of several by weight.

    Args:
        sources: the training rows of each source, all of one length.
        seed: of the order of the data.
        global_batch: rows per optimizer step over all ranks, B.
        weights: share of rows from each source; None for a single one.
        names: of the sources; they decide each one's order, so that listing them otherwise changes
            only which row comes when.
    """

    def __init__(
        self,
        sources: Sequence[Rows],
        seed: int,
        global_batch: int,
        weights: Sequence[float] | None = None,
        names: Sequence[str] = ("",),
    ) -> None:
        self._sources = list(sources)
        self._shares = Shares(weights or [1.0] * len(sources))
        # Sources of equal size must not be read in the same order; a single one has the seed
        # itself.
        self._seeds = [seed ^ _salt(name) if len(sources) > 1 else seed for name in names]
        self.seed = seed
        self.global_batch = global_batch
        self.sequence_length = sources[0].sequence_length
        self._latest: tuple[int, tuple[Int64s, Int64s, Int64s]] | None = None

    def rows(self, k: int) -> tuple[Int64s, Int64s]:
        """Source [B] and row number in it [B] of every row of batch k; a batch may span epochs."""
        if k < 0:
            raise ValueError(f"batch {k}; the first is 0")
        positions = np.arange(k * self.global_batch, (k + 1) * self.global_batch, dtype=np.int64)
        which, numbers = self._shares.draw(self.seed, positions)
        rows = np.empty_like(numbers)
        for source, (own, seed) in enumerate(zip(self._sources, self._seeds, strict=True)):
            mine = which == source
            rows[mine] = rows_at(seed, numbers[mine], len(own))
        return which, rows

    def tokens(self, k: int) -> int:
        """Tokens of batch k over all ranks, fill not counted."""
        return int(self._counted(k)[2].sum())

    def batch(self, k: int, rank: int, world_size: int, micro_batch: int) -> list[MicroBatch]:
        """This rank's share of batch k, one for each accumulation step.

        The order is accumulation-major: row i of step a on rank r is row (a * world_size + r) * M +
        i of the global batch. So concatenating the ranks within each step, and then the steps,
        gives the same B rows for any world size and micro batch.

        Args:
            k: number of the batch, 0-based.
            rank: in [0, world_size).
            world_size: ranks that share the batch.
            micro_batch: rows per rank and forward pass, M.

        Returns:
            B / (world_size * M) micro batches.

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
        which, rows, real = self._counted(k)
        predicted = real - 1  # a row's first token is given, not predicted
        mean = predicted.sum() / (self.global_batch // micro_batch)
        shares = zip(
            *(
                each.reshape(-1, world_size, micro_batch)[:, rank]
                for each in (which, rows, predicted)
            ),
            strict=True,
        )
        return [
            MicroBatch(*self._read(sources, numbers), float(count.sum() / mean))
            for sources, numbers, count in shares
        ]

    def _counted(self, k: int) -> tuple[Int64s, Int64s, Int64s]:
        """`rows` and their real tokens; of the batch asked for last without drawing it again."""
        if self._latest is None or self._latest[0] != k:
            which, rows = self.rows(k)
            self._latest = k, (which, rows, self._real_tokens(which, rows))
        return self._latest[1]

    def _real_tokens(self, which: Int64s, rows: Int64s) -> Int64s:
        counts = np.empty_like(rows)
        for source in np.unique(which):
            counts[which == source] = self._sources[source].real_tokens(rows[which == source])
        return counts

    def _read(self, which: Int64s, rows: Int64s) -> Labelled:
        tokens = torch.empty((len(rows), self.sequence_length), dtype=torch.int64)
        labels = torch.empty_like(tokens)
        for source in np.unique(which):
            mine = torch.from_numpy(which == source)
            tokens[mine], labels[mine] = self._sources[source].read(rows[which == source])
        return Labelled(tokens, labels)


def validation_rows(
    sources: Sequence[Rows], max_tokens: int, weights: Sequence[float] | None = None
) -> Labelled:
    """The validation rows, the same whatever the world size: the first of every source, its share
    of the tokens by weight.

    With several sources there is one figure, the loss on the mixture that is trained on. Where a
    source has fewer tokens than its share, all of it is taken; `max_tokens` 0 takes all of every
    source.

    Args:
        sources: the validation rows of each source.
        max_tokens: real tokens used, at most, but one row of each source at least; 0 uses all.
        weights: as for Batches.
    """
    counts = Shares(weights or [1.0] * len(sources)).counts
    whole = int(counts.sum())
    most = [max(1, max_tokens * int(count) // whole) if max_tokens else 0 for count in counts]
    parts = [first_rows(own, tokens) for own, tokens in zip(sources, most, strict=True)]
    return Labelled(
        torch.cat([part.tokens for part in parts]), torch.cat([part.labels for part in parts])
    )


def _salt(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest(), "little")
