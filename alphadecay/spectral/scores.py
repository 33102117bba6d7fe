"""The other scores of a weight, for ablations (arXiv 2506.14562 has the norms): norms, stable rank,
entropy, α-hat.

Shapes: weight_MN the weight (leading dimensions are a stack), eigenvalues_K [..., K] float64,
    ascending, of its Gram, in the unit of the weight, squared.
`published` is what the published code computes under the same name.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from alphadecay.spectral.esd import ESD, esd_by_gram
from alphadecay.spectral.hill import hill
from alphadecay.spectral.judge import esd_status
from alphadecay.spectral.row import EstimateRow

PUBLISHED_ENTROPY_SHIFT = 6e-5


def spectral_norm(eigenvalues_K: Tensor, *, published: bool = False) -> Tensor:
    """Return ‖W‖₂ = √λmax, [...], unit of the weight (an ablation of arXiv 2506.14562).

    published: λmax, without the root.
    """
    largest = eigenvalues_K[..., -1].clamp_min(0)
    return largest if published else largest.sqrt()


def frobenius_norm(eigenvalues_K: Tensor, *, published: bool = False) -> Tensor:
    """Return ‖W‖_F = √Σλ, [...], unit of the weight (an ablation of arXiv 2506.14562).

    published: Σλ, without the root.
    """
    total = eigenvalues_K.clamp_min(0).sum(-1)
    return total if published else total.sqrt()


def stable_rank(eigenvalues_K: Tensor, *, published: bool = False) -> Tensor:
    """Return ‖W‖_F² / ‖W‖₂² = Σλ / λmax, [...], in [1, K]; NaN for the zero matrix.

    As published too.
    """
    return eigenvalues_K.clamp_min(0).sum(-1) / eigenvalues_K[..., -1].clamp_min(0)


def entropy(eigenvalues_K: Tensor, *, published: bool = False) -> Tensor:
    """Return −Σ p ln p / ln K with p = λ/Σλ, [...], in [0, 1]; NaN for the zero matrix.

    published: every p is raised by 6e-5 and not normalised again, which adds to the score, the more
        the more eigenvalues there are.
    """
    values_K = eigenvalues_K.clamp_min(0)
    shares_K = values_K / values_K.sum(-1, keepdim=True) + (
        PUBLISHED_ENTROPY_SHIFT if published else 0.0
    )
    return -torch.special.xlogy(shares_K, shares_K).sum(-1) / math.log(eigenvalues_K.shape[-1])


def alpha_hat(eigenvalues_K: Tensor, *, published: bool = False) -> Tensor:
    """Return α·log10 λmax, [...], α by `hill`; it depends on the unit of the weight.

    published: softplus of it, α by the published index.
    """
    product = hill(eigenvalues_K, published=published).alpha * eigenvalues_K[..., -1].log10()
    return softplus(product) if published else product


SCORES: dict[str, Callable[..., Tensor]] = {
    "spectral_norm": spectral_norm,
    "frobenius_norm": frobenius_norm,
    "stable_rank": stable_rank,
    "entropy": entropy,
    "alpha_hat": alpha_hat,
}


def score_row(esd: ESD, score: Callable[..., Tensor]) -> EstimateRow:
    """Return the row of a score in the place of α, for the same maps: no tail, no escalation."""
    return EstimateRow.make(esd_status(esd), score(esd.in_weight_units()))


def gradient_norm(gradient: Tensor) -> Tensor:
    """Return ‖G‖_F of a gradient of any shape (an ablation of arXiv 2506.14562).

    A float64 scalar, accumulated in float32 or better; 0 for an empty one. No host sync.
    """
    work = torch.float64 if gradient.dtype == torch.float64 else torch.float32
    return torch.linalg.vector_norm(gradient.detach(), dtype=work).to(torch.float64)


def scores(
    weight_MN: Tensor, *, published: bool = False, precision: torch.dtype = torch.float64
) -> Tensor:
    """Return every score of a weight at once.

    Args: weight_MN [..., M, N], floating, min(M, N) ≥ 2; precision of the Gram.
    Returns: float64 [..., len(SCORES)] in the order of SCORES; NaN where there is none: all of them
        for a weight that is not finite. No host sync but the solver's own.
    """
    values_K = esd_by_gram(weight_MN, precision).in_weight_units()
    table = torch.stack([score(values_K, published=published) for score in SCORES.values()], -1)
    known = torch.isfinite(table) & torch.isfinite(values_K[..., -1:])
    return torch.where(known, table, math.nan)
