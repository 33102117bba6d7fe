"""Means and spreads over seeds, and paired differences with an interval. Numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Figures of some seeds.

    Args:
        mean: their mean.
        sd: their standard deviation over n - 1; None for one figure.
        n: how many.
    """

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """A mean of differences, seed by seed.

    Args:
        mean: method less baseline.
        low: lower end of its two-sided interval; None for one seed, which has no interval.
        high: upper end.
        seeds: those that both have.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: tuple[int, ...]

    @property
    def side(self) -> int:
        """-1 or 1 where the whole interval lies below or above 0; 0 where it does not, or where
        there is none.
        """
        if self.low is None or self.high is None:
            return 0
        return -1 if self.high < 0 else 1 if self.low > 0 else 0


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and standard deviation; None of nothing."""
    if not values:
        return None
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float]
) -> Difference | None:
    """The mean difference over the seeds that both have, with Student's t interval; None where they
    share no seed.

    The two-sided interval, of confidence CONFIDENCE, takes the differences for draws of a normal
    distribution.

    Args:
        values: a method's figures by seed.
        baseline: the baseline's.
    """
    seeds = tuple(sorted(values.keys() & baseline.keys()))
    found = spread([values[seed] - baseline[seed] for seed in seeds])
    if found is None:
        return None
    if found.sd is None:
        return Difference(found.mean, None, None, seeds)
    reach = t_quantile(CONFIDENCE, found.n - 1) * found.sd / math.sqrt(found.n)
    return Difference(found.mean, found.mean - reach, found.mean + reach, seeds)


def t_quantile(confidence: float, freedom: int) -> float:
    """The t that Student's distribution stays within, on both sides, with this probability.

    Its distribution function is a finite sum where the degrees of freedom are whole (Abramowitz &
    Stegun, 26.7.3 and 26.7.4), so halving an interval finds it to the last bits, and no package is
    needed.

    Args:
        confidence: in (0, 1).
        freedom: degrees of freedom, at least 1.
    """
    low = 0.0
    high = math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan(high)


def _within(angle: float, freedom: int) -> float:
    """P(|T| <= t) of t = √freedom · tan(angle)."""
    sine = math.sin(angle)
    cosine = math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):  # the term of cosine to the power k - 1
        total += term
        term *= cosine * cosine * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
