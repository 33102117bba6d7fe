"""The empirical spectral density: eigenvalues of the Gram matrix, ascending, guarded against inputs
that stop a solver.

Shapes: weight_MN, K = min(M, N), gram_KK, eigenvalues_K ascending; leading dimensions are a stack.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from alphadecay.spectral.gram import full_precision, largest_entry


class Spectrum(NamedTuple):
    """eigenvalues_K [..., K] float64 ascending, of the prescaled matrix; finite [...] and zero
    [...] are flags of the matrix.

    Where `finite` is False or `zero` is True the eigenvalues are those of a harmless stand-in.
    """

    eigenvalues_K: Tensor
    finite: Tensor
    zero: Tensor


def _guard(matrix: Tensor, largest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Replace matrices [..., R, C] whose largest [...] is not finite or is zero by the identity."""
    finite = torch.isfinite(largest)
    zero = finite & (largest <= 0)
    # a branch on a CPU tensor waits for nothing
    if matrix.device.type == "cpu" and bool((finite & ~zero).all()):
        return matrix, finite, zero
    identity = torch.eye(*matrix.shape[-2:], dtype=matrix.dtype, device=matrix.device)
    return torch.where((finite & ~zero)[..., None, None], matrix, identity), finite, zero


def _eigvalsh(gram_KK: Tensor) -> Tensor:
    """eigvalsh of a stack: one by one on the CPU, where the batched call gains nothing; one call on
    a GPU.
    """
    if gram_KK.dim() == 2 or gram_KK.device.type != "cpu" or gram_KK.shape[0] == 0:
        return torch.linalg.eigvalsh(gram_KK, UPLO="L")
    return torch.stack([_eigvalsh(one) for one in gram_KK])


def spectrum_of_gram(gram_KK: Tensor) -> Spectrum:
    """Eigenvalues of gram_KK [..., K, K], of which the lower triangle is read.

    No host sync but the solver's own.

    Never raises on NaN or Inf: a diagonal entry of a Gram is a sum of squares, so its maximum tells
        finite and zero.
    """
    with full_precision(gram_KK.device):
        safe_KK, finite, zero = _guard(gram_KK, gram_KK.diagonal(dim1=-2, dim2=-1).amax(-1))
        return Spectrum(_eigvalsh(safe_KK).to(torch.float64), finite, zero)


def spectrum_of_weight(scaled_MN: Tensor) -> Spectrum:
    """Squared singular values of a prescaled weight [..., M, N], by `svdvals`: slower than the
    Gram, with half its loss of digits.
    """
    with full_precision(scaled_MN.device):
        safe_MN, finite, zero = _guard(scaled_MN, largest_entry(scaled_MN))
        singular_K = torch.linalg.svdvals(safe_MN).to(torch.float64)
        return Spectrum(singular_K.flip(-1).square(), finite, zero)
