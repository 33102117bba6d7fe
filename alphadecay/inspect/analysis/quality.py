"""Measures of a whole model that need no data: averages over its weights.

Martin, Peng and Mahoney, "Predicting trends in the quality of state-of-the-art neural networks
without access to training or testing data", Nature Communications 12 (2021), 4122: the average
alpha, alpha-hat (alpha weighted by log10 of the largest eigenvalue), and the logarithms of the
Frobenius and the spectral norm, squared. Smaller is better within a series of one architecture;
between architectures they say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from alphadecay.inspect.analysis.rows import Row

# name -> what is averaged over the weights that have it, and in words
QUALITY: Mapping[str, tuple[Callable[[Row], float], str]] = MappingProxyType(
    {
        "mean_alpha": (lambda row: row.alpha, "average alpha"),
        "weighted_alpha": (
            lambda row: row.alpha_hat,
            "average of alpha times log10 of the largest eigenvalue",
        ),
        "log_frobenius_norm": (
            lambda row: _log10_squared(row.frobenius_norm),
            "average log10 of the squared Frobenius norm",
        ),
        "log_spectral_norm": (
            lambda row: _log10_squared(row.spectral_norm),
            "average log10 of the squared spectral norm",
        ),
        "mean_ks_distance": (lambda row: row.ks_distance, "average KS distance"),
        "mean_stable_rank": (lambda row: row.stable_rank, "average stable rank"),
    }
)
QUALITY_SOURCE = "Martin, Peng and Mahoney, Nature Communications 12 (2021), 4122"


def quality_of(rows: Iterable[Row]) -> dict[str, float]:
    """Return each measure of the weights that have an alpha; NaN where none has."""
    measured = [row for row in rows if math.isfinite(row.alpha)]
    return {name: _mean([of(row) for row in measured]) for name, (of, _) in QUALITY.items()}


def _log10_squared(norm: float) -> float:
    return 2 * math.log10(norm) if norm > 0 else math.nan


def _mean(values: list[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan
