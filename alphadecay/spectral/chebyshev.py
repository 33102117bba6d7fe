"""Sums over a spectrum from Chebyshev moments, which products alone give.

Shapes: matrix_BKK a stack of symmetric matrices X with eigenvalues x in [−1, 1]; moments_BJ the
    traces tr T_j(X), j from 0; function values on the P points of `grid`.
Σ f(x_i) = Σ_j c_j·tr T_j(X), with the coefficients c of f. They are not damped: a kernel that
smooths f's kinks costs more in bias than it saves (10 to 50 × where that was measured).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from alphadecay.spectral.gram import reduced_precision

ROWS_AT_ONCE = 2**15  # matrices of one batched product; some kernels take 65,535 at most
POINTS = 4096  # of the quadrature: a kink is then off by 1e-7 or so


def moments(matrix_BKK: Tensor, step: int, leaps: int) -> Tensor:
    """Return tr T_j(X) for j up to step·(leaps + 1), float64 [B, J].

    T_1 … T_step are kept, T_2·step, T_3·step … follow each other, and the traces of the products of
    the two give what lies between: tr T_{a+b} = 2·tr T_a·T_b − tr T_{a−b}. That is step + leaps − 2
    products, in TF32 where there is such a thing.

    Args:
        matrix_BKK: float32.
    """
    count, size = matrix_BKK.shape[:2]
    traces_BJ = matrix_BKK.new_empty(count, step * (leaps + 1) + 1, dtype=torch.float64)
    traces_BJ[:, 0] = size
    with reduced_precision(matrix_BKK.device):
        kept_SBKK = _first_polynomials(matrix_BKK, step)
        diagonals_SBK = kept_SBKK.diagonal(dim1=-2, dim2=-1)
        traces_BJ[:, 1 : step + 1] = diagonals_SBK.sum(-1, dtype=torch.float64).mT
        before = _identity(matrix_BKK)
        leap = current = kept_SBKK[-1]
        for first in range(step, step * (leaps + 1), step):
            if first > step:
                before, current = current, following(leap, current, before)
            lower_BS = traces_BJ[:, first - step : first].flip(-1)
            mixed_BS = _traces_of_products(kept_SBKK, current)
            traces_BJ[:, first + 1 : first + step + 1] = 2 * mixed_BS - lower_BS
    return traces_BJ


def following(left: Tensor, right: Tensor, before: Tensor) -> Tensor:
    """Return T_{a+b} = 2·T_a·T_b − T_{a−b}."""
    return torch.baddbmm(before, left, right, beta=-1, alpha=2)


def _identity(matrix_BKK: Tensor) -> Tensor:
    size = matrix_BKK.shape[-1]
    identity_KK = torch.eye(size, dtype=matrix_BKK.dtype, device=matrix_BKK.device)
    return identity_KK.expand(matrix_BKK.shape)


def _first_polynomials(matrix_BKK: Tensor, step: int) -> Tensor:
    """Return T_1 … T_step, [step, B, K, K]."""
    kept_SBKK = matrix_BKK.new_empty(step, *matrix_BKK.shape)
    kept_SBKK[0] = matrix_BKK
    for index in range(2, step + 1):
        low = index // 2
        high = index - low
        before = _identity(matrix_BKK) if high == low else matrix_BKK
        kept_SBKK[index - 1] = following(kept_SBKK[high - 1], kept_SBKK[low - 1], before)
    return kept_SBKK


def _traces_of_products(kept_SBKK: Tensor, current_BKK: Tensor) -> Tensor:
    """Return tr T_s·T for each T_s that was kept, float64 [B, S]: the sums of their products, entry
    by entry, row by row so that all of a GPU reads at once.
    """
    step, count, size = kept_SBKK.shape[:3]
    kept_RSK = kept_SBKK.view(step, count * size, size).transpose(0, 1)
    current_RK1 = current_BKK.reshape(count * size, size, 1)
    sums_RS1 = torch.cat(
        [
            kept @ current
            for kept, current in zip(
                kept_RSK.split(ROWS_AT_ONCE), current_RK1.split(ROWS_AT_ONCE), strict=True
            )
        ]
    )
    return sums_RS1.view(count, size, step).sum(1, dtype=torch.float64)


def grid(device: torch.device) -> Tensor:
    """Return the angles θ of the quadrature's points cos θ, float64 [P], from 1 down to −1."""
    index = torch.arange(POINTS, dtype=torch.float64, device=device)
    return (index + 0.5) * (math.pi / POINTS)


def coefficients(values_BP: Tensor, count: int) -> Tensor:
    """Return c_0 … c_{count−1} of the functions that have these values on `grid`, [B, J]."""
    theta_P = grid(values_BP.device)
    index_J = torch.arange(count, dtype=torch.float64, device=values_BP.device)
    both_BJ = (2 / POINTS) * values_BP @ torch.cos(theta_P[:, None] * index_J)
    both_BJ[:, 0] /= 2
    return both_BJ


def point_above_which(moments_BJ: Tensor, rank: int) -> Tensor:
    """Return x [B] above which about `rank` − ½ eigenvalues lie: within a spacing or two.

    The number above x is the sum of a step function, whose coefficients are known: θ/π, and
    2·sin(jθ)/(jπ) with x = cos θ.
    """
    theta_P = grid(moments_BJ.device)
    index_J = torch.arange(1, moments_BJ.shape[1], dtype=torch.float64, device=theta_P.device)
    steps_JP = torch.sin(index_J[:, None] * theta_P) * (2 / math.pi / index_J[:, None])
    above_BP = moments_BJ[:, :1] * (theta_P / math.pi) + moments_BJ[:, 1:] @ steps_JP
    first_B = (above_BP <= rank - 0.5).sum(-1).clamp_max(POINTS - 1)
    return torch.cos(theta_P[first_B])
