"""Decides which source each row of the run comes from, in exact proportions.

The source is a pure function of the seed and the row's position.

Shapes: n positions asked for, S sources, A rows of a block.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.config.shares import whole_shares
from train.data.loading.order import Int64s, permute


class Shares:
    """Blocks of A positions, each with exactly its share of rows from every source.

    Each block has an order of its own.

    Args:
        weights: one positive number for each source.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        counts = whole_shares(weights)
        self.counts = np.array(counts, dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)
        self._block = sum(counts)

    def draw(self, seed: int, positions: Int64s) -> tuple[Int64s, Int64s]:
        """Return the source of each position, and the row's number in the reading of that source.

        Every source is read without gap or repetition: its numbers over all positions are 0, 1, 2,
        ..., each once.

        Args:
            seed: seed of the order of the data.
            positions: int64 [n].

        Returns:
            Sources and numbers, int64 [n] each.

        Args:
            seed: seed of the order of the data.
            positions: int64 [n].

        Returns:
            Sources and numbers, int64 [n] each.
        """
        blocks, offsets = np.divmod(positions, self._block)
        places = permute(seed, blocks, offsets, self._block)
        sources = np.searchsorted(self._starts, places, side="right") - 1
        numbers = blocks * self.counts[sources] + places - self._starts[sources]
        return sources.astype(np.int64), numbers
