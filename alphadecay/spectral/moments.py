"""PL_Alpha_Hill without an eigensolver: one inverse, a few dozen products, and a median.

A GPU multiplies matrices hundreds of times faster than it finds their eigenvalues, and products of
equal matrices run as one. With A the Gram, λ its eigenvalues, s > 0 and X = I − 2·(A/s + I)⁻¹, the
eigenvalues of X are x = (λ − s)/(λ + s): a logarithmic scale between −1 and 1, on which outliers
cost nothing. With m the eigenvalue where the tail begins, and k of them in the tail,

    α = 1 + k/S,    S = Σ (ln λ/m)₊ = ln det(A/s + I) − Σ b(x),

where b is bounded and has one kink, at m: its sum comes from Chebyshev moments. They also tell
where m lies to a spacing or two. There the pivots of X − x0 count the eigenvalues above x0 exactly,
and inverse iteration finds its neighbours, so m itself.

What cannot be vouched for is in doubt, and is for `eigvalsh`. A matrix without an α always is, so
that its status comes from there.

Shapes: matrix_BKK a stack of Grams, float64; V vectors; x_BV eigenvalues near x0, ascending; other
    numbers [B].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from alphadecay.spectral.chebyshev import coefficients, grid, moments, point_above_which
from alphadecay.spectral.gram import Gram, full_precision
from alphadecay.spectral.inversion import invert
from alphadecay.spectral.judge import MINIMUM
from alphadecay.spectral.row import EstimateRow
from alphadecay.spectral.status import Status

SMALLEST = 128  # sides below are solved as fast
VECTORS = 32  # found near the median; as many of the largest are left out of the mean
ITERATIONS = 5  # of the inverse: an eigenvalue 4 spacings away is then known to 1e-6 of one
STEP = 8  # 136 moments of 22 products: see `moments`
LEAPS = 16
# float32 numbers for each entry: 8 polynomials, 4 more, X and its copy, the Gram and its stack
WORKSPACE = 20
MOST_TOGETHER = 96

# What a row is trusted with:
LARGEST_X = 0.95  # of the median, where the moments resolve it: m/s within 39 × of 1
LARGEST_RATIO = 1e8  # Σλ/m; the inverse loses digits with it
LEAST_PIVOT = 1e-9  # of X − x0, which loses digits with its inverse
LOG_ERROR = 1e-5  # of m, by the residual
ALPHA_ERROR = 1e-3  # what α may move by with half of the moments, and three of its deviations


class _Scaled(NamedTuple):
    """X of each Gram, and what is known on the way to it.

    x_BKK: X; of the identity where the Gram is not usable: not finite, or zero.
    scale: s.
    log_det: ln det(A/s + I).
    total: Σ λ.
    """

    x_BKK: Tensor
    scale: Tensor
    log_det: Tensor
    total: Tensor
    usable: Tensor


class _Near(NamedTuple):
    """The eigenvalue x of a rank, how far it may be off, and whether it is the one."""

    x: Tensor
    error: Tensor
    trusted: Tensor


def tails_by_moments(matrix_BKK: Tensor, published: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return α, x_min and where both can be trusted, [B] each; elsewhere they may be anything.

    Args:
        matrix_BKK: float64, K ≥ 128, of which the lower triangle is read.
        published: the published code's tail index.
    """
    device = matrix_BKK.device
    count, rank = _tail(matrix_BKK.shape[-1], published)
    start_KV = _start(matrix_BKK.shape[-1], device)
    with full_precision(device):
        scaled = _scale(matrix_BKK, start_KV)
    moments_BJ = moments(scaled.x_BKK.to(torch.float32), STEP, LEAPS)
    with full_precision(device):
        near = _eigenvalue(scaled.x_BKK, point_above_which(moments_BJ, rank), rank, start_KV)
        half = moments_BJ.shape[1] // 2
        alpha, coarser = (
            1 + count / (scaled.log_det - _bounded_part(some_BJ, near.x))
            for some_BJ in (moments_BJ, moments_BJ[:, :half])
        )
    x_min = scaled.scale * (1 + near.x) / (1 - near.x)
    trusted = (
        scaled.usable
        & near.trusted
        & (near.x.abs() < LARGEST_X)
        & (scaled.total < LARGEST_RATIO * x_min)
        & (2 * near.error / (1 - near.x.square()) < LOG_ERROR)
        & ((alpha - coarser).abs() < ALPHA_ERROR)
        & (3 * _deviation(alpha, near.x, count, moments_BJ.shape[1]) < ALPHA_ERROR)
        & (alpha > 1)
    )
    return alpha, x_min, trusted


def _tail(size: int, published: bool) -> tuple[int, int]:
    """Return how many eigenvalues a tail has, and the rank from above of its x_min."""
    return (size - size // 2, size - size // 2) if published else (size // 2, size // 2 + 1)


def _scale(lower_BKK: Tensor, start_KV: Tensor) -> _Scaled:
    whole_BKK, usable = _usable(lower_BKK)
    total = whole_BKK.diagonal(dim1=-2, dim2=-1).sum(-1)
    scale = _mean_without_outliers(whole_BKK, start_KV, total)
    identity_KK = _identity(whole_BKK)
    inverse_BKK, pivots_BK = invert(whole_BKK / scale[:, None, None] + identity_KK)
    return _Scaled(identity_KK - 2 * inverse_BKK, scale, pivots_BK.log().sum(-1), total, usable)


def _identity(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _usable(lower_BKK: Tensor) -> tuple[Tensor, Tensor]:
    """Return whole matrices out of lower triangles, the identity for those that are not finite or
    are zero, and which are neither.
    """
    largest = lower_BKK.diagonal(dim1=-2, dim2=-1).amax(-1)
    usable = torch.isfinite(largest) & (largest > 0)
    whole_BKK = lower_BKK.tril() + lower_BKK.tril(-1).mT
    return torch.where(usable[:, None, None], whole_BKK, _identity(whole_BKK)), usable


def _start(size: int, device: torch.device) -> Tensor:
    """Return the vectors that all subspaces start from, the same for every matrix and rank."""
    generator = torch.Generator().manual_seed(0)
    start_KV = torch.randn(size, VECTORS, generator=generator, dtype=torch.float64)
    return start_KV.to(device)


def _orthonormal(vectors_BKV: Tensor) -> Tensor:
    """Return an orthonormal basis of the same span; NaN where there is none."""
    gram_BVV = vectors_BKV.mT @ vectors_BKV
    factor_BVV = torch.linalg.cholesky_ex(gram_BVV).L
    return torch.linalg.solve_triangular(factor_BVV.mT, vectors_BKV, upper=True, left=False)


def _mean_without_outliers(whole_BKK: Tensor, start_KV: Tensor, total: Tensor) -> Tensor:
    """Return the mean eigenvalue without the largest few, near the median; the mean itself where
    little else is left.
    """
    vectors_BKV = _orthonormal(_orthonormal(whole_BKK @ start_KV))
    vectors_BKV = _orthonormal(_orthonormal(whole_BKK @ vectors_BKV))
    largest = (vectors_BKV * (whole_BKK @ vectors_BKV)).sum((-2, -1))
    size, count = start_KV.shape
    rest = (total - largest) / (size - count)
    mean = total / size
    return torch.where(rest > mean / LARGEST_RATIO, rest, mean)


def _eigenvalue(x_BKK: Tensor, guess: Tensor, rank: int, start_KV: Tensor) -> _Near:
    """Return the eigenvalue that `rank` − 1 others exceed, looked for near a guess."""
    inverse_BKK, pivots_BK = invert(x_BKK - guess[:, None, None] * _identity(x_BKK))
    vectors_BKV = start_KV.expand(len(x_BKK), -1, -1)
    for _ in range(ITERATIONS):
        vectors_BKV = _orthonormal(inverse_BKK @ vectors_BKV)
    vectors_BKV = _orthonormal(vectors_BKV)
    x_BV, error_BV, below = _ritz(x_BKK, inverse_BKK, vectors_BKV)
    exceeding = (pivots_BK > 0).sum(-1)  # the guess
    place = below + exceeding - rank
    index = place.clamp(0, VECTORS - 1)[:, None]
    error = error_BV.gather(-1, index)[:, 0]
    # what lies between the guess and the place must be known too, or the place is another's
    order_V = torch.arange(VECTORS, device=x_BKK.device)
    first = torch.minimum(place, below)[:, None]
    last = torch.maximum(place, below - 1)[:, None]
    between_BV = (order_V >= first) & (order_V <= last)
    worst = torch.where(between_BV, error_BV, 0.0).amax(-1)
    trusted = (
        (place >= 0)
        & (place < VECTORS)
        & (worst < LOG_ERROR)
        & (pivots_BK.abs().amin(-1) > LEAST_PIVOT)
    )
    return _Near(x_BV.gather(-1, index)[:, 0], error, trusted)


def _ritz(x_BKK: Tensor, inverse_BKK: Tensor, vectors_BKV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return eigenvalues of X near the guess, [B, V] in order, their residuals, and how many of
    them lie below it.

    The order is that of the inverse's, whose Ritz values never come nearer than the eigenvalues.
    """
    small_BVV = vectors_BKV.mT @ (inverse_BKK @ vectors_BKV)
    finite = torch.isfinite(small_BVV).all(-1).all(-1)
    small_BVV = torch.where(finite[:, None, None], small_BVV, _identity(small_BVV))
    reciprocals_BV, turn_BVV = torch.linalg.eigh(small_BVV)
    order_BV = (1 / reciprocals_BV).argsort(-1)
    reciprocals_BV = reciprocals_BV.gather(-1, order_BV)
    vectors_BKV = vectors_BKV @ turn_BVV.gather(-1, order_BV[:, None, :].expand_as(turn_BVV))
    images_BKV = x_BKK @ vectors_BKV
    x_BV = (vectors_BKV * images_BKV).sum(-2)
    error_BV = (images_BKV - vectors_BKV * x_BV[:, None, :]).norm(dim=-2)
    return x_BV, error_BV, (reciprocals_BV < 0).sum(-1)


def _bounded_part(moments_BJ: Tensor, x: Tensor) -> Tensor:
    """Return Σ b(x_i): ln(1 + λ/s) below the median x, and ln(1 + λ/s) − ln(λ/m) above it."""
    at_P = torch.cos(grid(x.device))
    kink = ((1 + x) / (1 - x)).log()[:, None]  # ln m/s
    above_BP = kink + (2 / (1 + at_P)).log()
    values_BP = torch.where(at_P > x[:, None], above_BP, (2 / (1 - at_P)).log())
    return (coefficients(values_BP, moments_BJ.shape[1]) * moments_BJ).sum(-1)


def _deviation(alpha: Tensor, x: Tensor, count: int, moments: int) -> Tensor:
    """Return the standard deviation of α if eigenvalues were independent, which those of weights
    are not: they repel, and are nearer to their mean.

    In θ, with x = cos θ, b has a kink of 2/sin θ at m, so that of ∫b² the moments leave out
    4/(3π·J³·sin²θ); the eigenvalues of a tail are 2k(α − 1)/sin θ as dense there; and δα is
    (α − 1)²·δS/k.
    """
    sine = (1 - x.square()).sqrt()
    dense = 2 * count * (alpha - 1) / sine
    left_out = 4 / (3 * torch.pi * moments**3 * sine.square())
    return (alpha - 1).square() / count * (dense * left_out).sqrt()


def row_by_moments(
    gram: Gram, *, published: bool, minimum: int = MINIMUM
) -> tuple[EstimateRow, Tensor]:
    """Return the rows [B] of a stack of Grams, and which of them are in doubt: their numbers mean
    nothing. There is no KS distance.
    """
    size = gram.matrix_KK.shape[-1]
    if size < max(SMALLEST, minimum):
        row = EstimateRow.too_small(gram.exponent.shape, gram.matrix_KK.device)
        return row, torch.ones_like(row.status, dtype=torch.bool)
    alpha, x_min, trusted = tails_by_moments(gram.matrix_KK.to(torch.float64), published)
    count, _ = _tail(size, published)
    row = EstimateRow.make(
        torch.full_like(alpha, float(Status.OK)),
        alpha,
        torch.ldexp(x_min, 2 * gram.exponent),
        torch.full_like(alpha, count),
    )
    return row, ~trusted


def matrices_together(side: int, memory: int) -> int:
    """Return how many matrices of a side a number of bytes has the workspace for, at least 1."""
    return max(1, min(MOST_TOGETHER, memory // (4 * WORKSPACE * side**2)))
