"""PL_Alpha_Hill: the power-law exponent of the upper half of a spectrum.

Shapes: eigenvalues_K [..., K] float64, ascending. Density p(λ) ∝ λ^−α for λ ≥ x_min; λ has the unit
    of the weight, squared.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from alphadecay.spectral.esd import ESD

TINY = torch.finfo(torch.float64).tiny


class TailFit(NamedTuple):
    """One fit for each spectrum of a stack; float64 tensors [...]."""

    alpha: Tensor
    x_min: Tensor
    tail_count: Tensor
    ks_distance: Tensor


def ks_distance(tail_T: Tensor, x_min: Tensor, alpha: Tensor) -> Tensor:
    """Return the Kolmogorov–Smirnov distance max_i |F(λ_i) − i/T|, i from 0, [...].

    F(λ) = 1 − (λ/x_min)^(1−α)  (Clauset, Shalizi, Newman 2009).

    Args: tail_T [..., T] ascending, x_min [...], alpha [...].
    """
    count = tail_T.shape[-1]
    empirical_T = torch.arange(count, dtype=tail_T.dtype, device=tail_T.device) / count
    log_ratio_T = (tail_T / x_min[..., None]).log()
    model_T = -torch.expm1((1 - alpha)[..., None] * log_ratio_T)
    return (model_T - empirical_T).abs().amax(-1)


def hill(eigenvalues_K: Tensor, *, published: bool = False) -> TailFit:
    """Return PL_Alpha_Hill: α = 1 + k / Σ_{i=n−k+1..n} ln(λ_i / λ_{n−k}), k = ⌊n/2⌋, i from 1
    (AlphaDecay, arXiv 2506.14562).

    Args: eigenvalues_K [..., K] ascending, K ≥ 2; values ≤ 0 are taken as the smallest positive
        number. published: the tail is λ[⌊n/2⌋:] with i from 0, and its first member is x_min
        itself, counted in the tail.
    Returns: TailFit of [...]; α is inf where all of the tail equals x_min. No host sync.
    """
    values_K = eigenvalues_K.clamp_min(TINY)
    size = values_K.shape[-1]
    first = size // 2 if published else size - size // 2
    tail_T = values_K[..., first:]
    x_min = values_K[..., first if published else first - 1]
    log_sum = (tail_T / x_min[..., None]).log().sum(-1)
    alpha = 1 + tail_T.shape[-1] / log_sum
    return TailFit(
        alpha, x_min, torch.full_like(alpha, tail_T.shape[-1]), ks_distance(tail_T, x_min, alpha)
    )


def fit_hill(esd: ESD, published: bool) -> TailFit:
    """Return `hill` of every spectrum of a stack."""
    return hill(esd.eigenvalues_K, published=published)
