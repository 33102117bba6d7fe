"""Which source each row of the run comes from: a pure function of the seed and the row's position,
in exact proportions.

Shapes: n positions asked for, S sources, A rows of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd

import numpy as np

from train.data.order import Int64s, permute
from train.errors import UserError

FINEST = 1_000_000  # longest block: shares are kept to a millionth


def whole_shares(weights: Sequence[float]) -> list[int]:
    """Smallest whole numbers in the proportion of the weights; shares finer than a millionth are
    rounded to it.

    Args:
        weights: positive numbers, as they were written: 0.7 counts as 7/10.

    Raises:
        UserError: a weight so small that its source would never be read.
    """
    exact = [Fraction(repr(float(weight))) for weight in weights]
    shares = [weight / sum(exact) for weight in exact]
    block = 1
    for share in shares:
        block = block * share.denominator // gcd(block, share.denominator)
    if block <= FINEST:
        return [int(share * block) for share in shares]
    counts = [int(share * FINEST) for share in shares]
    largest = sorted(range(len(shares)), key=lambda at: counts[at] - shares[at] * FINEST)
    for at in largest[: FINEST - sum(counts)]:
        counts[at] += 1
    if 0 in counts:
        raise UserError(
            f"data.mixture: weight {weights[counts.index(0)]:g} is less than a millionth of the "
            "whole; leave that source out."
        )
    return counts


class Shares:
    """Blocks of A positions, each with exactly its share of rows from every source, in an order of
    its own.

    Args:
        weights: one positive number for each source.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        counts = whole_shares(weights)
        self.counts = np.array(counts, dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)
        self._block = sum(counts)

    def draw(self, seed: int, positions: Int64s) -> tuple[Int64s, Int64s]:
        """For each position [n] its source [n] and its number in the endless reading of that source
        [n].

        Every source is read without gap or repetition: its numbers over all positions are 0, 1, 2,
            ..., each once.
        """
        blocks, offsets = np.divmod(positions, self._block)
        places = permute(seed, blocks, offsets, self._block)
        sources = np.searchsorted(self._starts, places, side="right") - 1
        return sources.astype(np.int64), blocks * self.counts[sources] + places - self._starts[
            sources
        ]
