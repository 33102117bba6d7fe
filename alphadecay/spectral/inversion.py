"""Inverses of symmetric matrices made of products, and the pivots met on the way.

Shapes: matrix_BKK a stack of symmetric float64 matrices, pivots_BK.
The pivots D of M = L·D·Lᵀ tell two things: Σ ln D is ln det M of a positive matrix, and of any
other as many of them are positive as eigenvalues are (Sylvester).
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAF = 64  # side of what is eliminated column by column


def invert(matrix_BKK: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inverse [B, K, K] and the pivots [B, K], in order of the rows.

    By halves: the inverse of M = [[A, Bᵀ], [B, C]] follows from that of A and of the Schur
    complement C − B·A⁻¹·Bᵀ by products, which is where a GPU is fast. Nothing is permuted: of a
    matrix that is not positive a pivot may be small, and its digits are lost as it is. No host
    sync, no error on a singular matrix: what is not finite says so.
    """
    size = matrix_BKK.shape[-1]
    if size <= LEAF:
        return _eliminate(matrix_BKK)
    half = size // 2
    corner = matrix_BKK[..., half:, :half]
    upper, first_pivots = invert(matrix_BKK[..., :half, :half])
    across = corner @ upper
    complement = _symmetric(matrix_BKK[..., half:, half:] - across @ corner.mT)
    lower, last_pivots = invert(complement)
    inverse = torch.empty_like(matrix_BKK)
    inverse[..., half:, half:] = lower
    edge = lower @ across
    inverse[..., half:, :half] = -edge
    inverse[..., :half, half:] = -edge.mT
    inverse[..., :half, :half] = _symmetric(upper + across.mT @ edge)
    return inverse, torch.cat([first_pivots, last_pivots], -1)


def _symmetric(matrix_BKK: Tensor) -> Tensor:
    """Return the symmetric part: what rounding adds to the other would grow from half to half."""
    return (matrix_BKK + matrix_BKK.mT) / 2


def _eliminate(matrix_BKK: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same of a small matrix by its factors L·U, whose diagonal the pivots are."""
    factors = unpivoted_lu(matrix_BKK)
    size = matrix_BKK.shape[-1]
    kept = torch.arange(1, size + 1, dtype=torch.int32, device=matrix_BKK.device)
    identity = torch.eye(size, dtype=matrix_BKK.dtype, device=matrix_BKK.device)
    inverse = torch.linalg.lu_solve(
        factors,
        kept.expand(matrix_BKK.shape[:-1]).contiguous(),
        identity.expand(matrix_BKK.shape).contiguous(),
    )
    return _symmetric(inverse), factors.diagonal(dim1=-2, dim2=-1).clone()


def unpivoted_lu(matrix_BKK: Tensor) -> Tensor:
    """Return L·U without a change of rows, both in one matrix; L has ones on its diagonal."""
    if matrix_BKK.is_cuda:
        return torch.linalg.lu_factor_ex(matrix_BKK, pivot=False).LU
    # torch's CPU build has none
    factors = matrix_BKK.clone()
    for column in range(matrix_BKK.shape[-1] - 1):
        below = slice(column + 1, None)
        factors[..., below, column] /= factors[..., column, column, None]
        factors[..., below, below] -= (
            factors[..., below, column, None] * factors[..., None, column, below]
        )
    return factors
