"""Means and spreads over seeds, and paired differences with an interval: numbers in, numbers
out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t as student_t

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """The spread of some seeds' figures.

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
        return int(self.low > 0) - int(self.high < 0)


def spread_of(values: Sequence[float]) -> Spread | None:
    """Return mean and standard deviation; None where there are no values."""
    if not values:
        return None
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float]
) -> Difference | None:
    """Return the mean difference over the seeds that both have, with Student's t interval; None
    where they share no seed.

    The two-sided interval, of confidence CONFIDENCE, takes the differences for draws of a normal
    distribution.

    Args:
        values: a method's figures by seed.
        baseline: the baseline's.
    """
    seeds = tuple(sorted(values.keys() & baseline.keys()))
    differences = spread_of([values[seed] - baseline[seed] for seed in seeds])
    if differences is None:
        return None
    mean = differences.mean
    if differences.sd is None:
        return Difference(mean, None, None, seeds)
    quantile = float(student_t.ppf((1 + CONFIDENCE) / 2, differences.n - 1))
    reach = quantile * differences.sd / math.sqrt(differences.n)
    return Difference(mean, mean - reach, mean + reach, seeds)
