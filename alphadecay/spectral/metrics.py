"""The other scores of a weight, for ablations: norms, stable rank, entropy, α-hat.

Shapes: weight_MN the weight (leading dimensions are a stack), eigenvalues_K [..., K] float64,
    ascending, of its Gram, in the unit of
the weight, squared.
`published` is what the published code computes under the same name.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from alphadecay.spectral.esd import spectrum_of_gram
from alphadecay.spectral.gram import gram_exponent, take_gram
from alphadecay.spectral.status import Status
from alphadecay.spectral.tail import hill

PUBLISHED_ENTROPY_SHIFT = 6e-5


def spectral_norm(eigenvalues_K: Tensor, *, published: bool = False) -> Tensor:
    """‖W‖₂ = √λmax, [...], unit of the weight. published: λmax, without the root."""
    largest = eigenvalues_K[..., -1].clamp_min(0)
    return largest if published else largest.sqrt()


def frobenius_norm(eigenvalues_K: Tensor, *, published: bool = False) -> Tensor:
    """‖W‖_F = √Σλ, [...], unit of the weight. published: Σλ, without the root."""
    total = eigenvalues_K.clamp_min(0).sum(-1)
    return total if published else total.sqrt()


def stable_rank(eigenvalues_K: Tensor, *, published: bool = False) -> Tensor:
    """‖W‖_F² / ‖W‖₂² = Σλ / λmax, [...], a number in [1, K]; NaN for the zero matrix.

    As published too.
    """
    return eigenvalues_K.clamp_min(0).sum(-1) / eigenvalues_K[..., -1].clamp_min(0)


def entropy(eigenvalues_K: Tensor, *, published: bool = False) -> Tensor:
    """−Σ p ln p / ln K with p = λ/Σλ and 0·ln 0 = 0, [...], in [0, 1]; NaN for the zero matrix.

    published: every p is raised by 6e-5 and not normalised again, which adds to the score, the more
        the more eigenvalues there are.
    """
    values_K = eigenvalues_K.clamp_min(0)
    shares_K = values_K / values_K.sum(-1, keepdim=True) + (
        PUBLISHED_ENTROPY_SHIFT if published else 0.0
    )
    return -torch.special.xlogy(shares_K, shares_K).sum(-1) / math.log(eigenvalues_K.shape[-1])


def alpha_hat(eigenvalues_K: Tensor, *, published: bool = False) -> Tensor:
    """α·log10 λmax, [...], α by `tail.hill`; depends on the unit of the weight. published: softplus
    of it, α by the published index.
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


def estimate_score(
    weight_MN: Tensor, name: str, *, precision: torch.dtype = torch.float32
) -> Tensor:
    """One score in the place of α, for the same maps.

    Args: weight_MN [M, N], floating, min(M, N) ≥ 2; name in SCORES; precision of the Gram.
    Returns: row [len(FIELDS)] float64, as `estimate`; its tail is empty, and it never asks for
        escalation.
    """
    with torch.no_grad():
        gram_KK = take_gram(weight_MN, precision)
        spectrum = spectrum_of_gram(gram_KK)
        values_K = torch.ldexp(spectrum.eigenvalues_K, 2 * gram_exponent(gram_KK))
        score = SCORES[name](values_K)
        status = torch.where(spectrum.finite, float(Status.OK), float(Status.NOT_FINITE))
        status = torch.where(spectrum.zero, float(Status.ZERO), status)
        score = torch.where(status == float(Status.OK), score, math.nan)
        none = torch.zeros_like(score)
        return torch.stack(
            [score, none * math.nan, none, none * math.nan, status.to(score.dtype), none]
        )


def gradient_norm(gradient: Tensor) -> Tensor:
    """‖G‖_F of a gradient of any shape, a float64 scalar, accumulated in float32 or better; 0 for
    an empty one. No host sync.
    """
    work = torch.float64 if gradient.dtype == torch.float64 else torch.float32
    return torch.linalg.vector_norm(gradient.detach(), dtype=work).to(torch.float64)


def scores(
    weight_MN: Tensor, *, published: bool = False, precision: torch.dtype = torch.float64
) -> Tensor:
    """Every score of a weight at once.

    Args: weight_MN [..., M, N], floating, min(M, N) ≥ 2; precision of the Gram.
    Returns: float64 [..., len(SCORES)] in the order of SCORES; NaN where there is none: all of them
        for a weight that is not finite. No host sync but the solver's own.
    """
    with torch.no_grad():
        gram_KK = take_gram(weight_MN, precision)
        spectrum = spectrum_of_gram(gram_KK)
        values_K = torch.ldexp(spectrum.eigenvalues_K, 2 * gram_exponent(gram_KK)[..., None])
        values_K = torch.where(spectrum.zero[..., None], 0.0, values_K)
        table = torch.stack([score(values_K, published=published) for score in SCORES.values()], -1)
        return torch.where(spectrum.finite[..., None] & torch.isfinite(table), table, math.nan)
