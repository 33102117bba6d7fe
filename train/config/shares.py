"""Turns the weights of a mixture into whole numbers of rows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd

from train.errors import UserError

FINEST = 1_000_000  # longest block: shares are kept to a millionth
NEGLIGIBLE = ", less than a millionth of the whole; leave that source out"


def whole_shares(weights: Sequence[float]) -> list[int]:
    """Return the smallest whole numbers in the proportion of the weights.

    Shares finer than a millionth are rounded to it.

    Args:
        weights: positive numbers, as they were written: 0.7 counts as 7/10.

    Raises:
        UserError: a weight so small that its source would never be read.
    """
    counts = _counts(weights)
    if 0 in counts:
        at = counts.index(0)
        raise UserError(f"data.mixture[{at}].weight is {weights[at]:g}{NEGLIGIBLE}")
    return counts


def is_negligible(weights: Sequence[float]) -> bool:
    """Return whether the source of the smallest weight would never be read."""
    return 0 in _counts(weights)


def _counts(weights: Sequence[float]) -> list[int]:
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
    return counts
