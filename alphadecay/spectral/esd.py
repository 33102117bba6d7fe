"""The empirical spectral density (ESD): eigenvalues of the Gram matrix, ascending, guarded against
inputs that stop a solver, and against solvers that stop.

Shapes: weight_MN, K = min(M, N), matrix_KK, eigenvalues_K ascending; leading dimensions are a
    stack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from alphadecay.spectral.gram import (
    Gram,
    full_precision,
    largest_entry,
    on_solving_device,
    prescale,
    take_gram,
)

Solver = Callable[[Tensor], Tensor]


class ESD(NamedTuple):
    """This is the spectrum of a weight, or of each weight of a stack [...].

    eigenvalues_K: [..., K] float64 ascending, of the weight times 2**−exponent. Where a flag below
        says so they are those of a harmless stand-in.
    exponent: [...].
    finite, zero, converged: [...] flags of the matrix and of the solver.
    precision: what it was computed in.
    smallest: eigenvalues that a tail needs enough of: K, or those of one window.
    """

    eigenvalues_K: Tensor
    exponent: Tensor
    finite: Tensor
    zero: Tensor
    converged: Tensor
    precision: torch.dtype
    smallest: int

    def in_weight_units(self) -> Tensor:
        """Return the eigenvalues of the weight itself, [..., K]: NaN where it is not finite or no
        solver converged, 0 for the zero matrix.
        """
        values_K = torch.ldexp(self.eigenvalues_K, 2 * self.exponent[..., None])
        values_K = torch.where(self.zero[..., None], 0.0, values_K)
        return torch.where((self.finite & self.converged)[..., None], values_K, torch.nan)


def _guard(matrix: Tensor, largest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Replace matrices [..., R, C] whose largest [...] is not finite or is zero by the identity."""
    finite = torch.isfinite(largest)
    zero = finite & (largest <= 0)
    # a branch on a CPU tensor waits for nothing
    if matrix.device.type == "cpu" and bool((finite & ~zero).all()):
        return matrix, finite, zero
    identity = torch.eye(*matrix.shape[-2:], dtype=matrix.dtype, device=matrix.device)
    return torch.where((finite & ~zero)[..., None, None], matrix, identity), finite, zero


def _eigvalsh(matrix_KK: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(matrix_KK, UPLO="L")


def _did_not_converge(error: RuntimeError) -> bool:
    """Return whether an error is about the matrix; one about memory or a lost device is not."""
    return isinstance(error, torch.linalg.LinAlgError) or "CUSOLVER_STATUS" in str(error)


def _solve(solver: Solver, matrix: Tensor) -> Tensor:
    """Solve a stack: one by one on the CPU, where the batched call gains nothing, and where one of
    the batch does not converge.
    """
    stacked = matrix.dim() > 2
    if not stacked:
        return _solve_one(solver, matrix)
    if matrix.device.type != "cpu":
        try:
            return solver(matrix).to(torch.float64)
        except RuntimeError as error:
            if not _did_not_converge(error):
                raise
    if not matrix.shape[0]:
        return solver(matrix).to(torch.float64)
    return torch.stack([_solve(solver, one) for one in matrix])


def _solve_one(solver: Solver, matrix: Tensor) -> Tensor:
    """Solve as it is, in float64, and on the CPU; NaN where none of them converges."""
    attempts: list[Callable[[], Tensor]] = [
        lambda: matrix,
        lambda: matrix.to(torch.float64),
        lambda: matrix.to("cpu", torch.float64),
    ]
    for attempt in attempts:
        try:
            return solver(attempt()).to(matrix.device, torch.float64)
        except RuntimeError as error:
            if not _did_not_converge(error):
                raise
    count = min(matrix.shape[-2:])
    return torch.full((count,), torch.nan, dtype=torch.float64, device=matrix.device)


def _converged(values_K: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues with a stand-in of ones where one is NaN, and where none was."""
    converged = torch.isfinite(values_K).all(-1)
    return torch.where(converged[..., None], values_K, 1.0), converged


def esd_of_gram(gram: Gram) -> ESD:
    """Return the spectrum of a Gram, of which the lower triangle is read.

    Never raises on NaN or Inf: a diagonal entry of a Gram is a sum of squares, so its maximum tells
    finite and zero. No host sync but the solver's own.
    """
    matrix_KK = gram.matrix_KK
    with torch.no_grad():
        largest = matrix_KK.diagonal(dim1=-2, dim2=-1).amax(-1)
        safe_KK, finite, zero = _guard(matrix_KK, largest)
        values_K, converged = _converged(_solve(_eigvalsh, safe_KK))
    size = matrix_KK.shape[-1]
    return ESD(values_K, gram.exponent, finite, zero, converged, matrix_KK.dtype, size)


def esd_by_gram(weight_MN: Tensor, precision: torch.dtype) -> ESD:
    """Return the spectrum [..., K] of a weight by `eigvalsh` of its smaller Gram."""
    return esd_of_gram(take_gram(weight_MN, precision))


def esd_by_svd(weight_MN: Tensor, precision: torch.dtype) -> ESD:
    """Return the squared singular values [..., K] of a weight by `svdvals`: slower than the Gram,
    with half its loss of digits.
    """
    weight_MN = on_solving_device(weight_MN)
    with full_precision(weight_MN.device):
        scaled_MN, exponent = prescale(weight_MN, precision)
        safe_MN, finite, zero = _guard(scaled_MN, largest_entry(scaled_MN))
        values_K, converged = _converged(_solve(torch.linalg.svdvals, safe_MN).flip(-1).square())
    size = min(weight_MN.shape[-2:])
    return ESD(values_K, exponent, finite, zero, converged, precision, size)


def pooled(each: ESD) -> ESD:
    """Return the spectra of a stack [G] as one [G·K]: matrices of zeros add zeros, and one that is
    not finite, or on which no solver converged, marks the whole.
    """
    finite = each.finite.all()
    zero = finite & each.zero.all()
    values_GK = torch.where(each.zero[:, None], 0.0, each.eigenvalues_K)
    # one scale for all, the largest, so that nothing overflows
    exponent = each.exponent.amax()
    values_GK = torch.ldexp(values_GK, 2 * (each.exponent - exponent)[:, None])
    values_P = torch.where(zero | ~finite, 1.0, values_GK.flatten().sort().values)
    converged = each.converged.all()
    return ESD(values_P, exponent, finite, zero, converged, each.precision, each.smallest)
