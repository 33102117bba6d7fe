"""A spectrum and its tail fit become a row: with a status instead of a surprise."""

from __future__ import annotations

import torch
from torch import Tensor

from alphadecay.spectral.esd import ESD
from alphadecay.spectral.hill import TailFit
from alphadecay.spectral.row import EstimateRow
from alphadecay.spectral.status import Status

MINIMUM = 8  # eigenvalues: fewer make no tail
PUBLISHED_MINIMUM = 50
FLOAT32_RATIO = 1e-5  # float32 resolves x_min/λmax above this
DEFICIENT_RATIO = 1e-12  # and float64 above this
DEGENERATE_LOG = 2e-5  # mean ln(λ/x_min) of the tail: 1e-5 of all eigenvalues
FLOAT32_LOG = 4e-2  # the same mean, below which float32 loses digits: α over 26


def esd_status(esd: ESD, status: Tensor | None = None) -> Tensor:
    """Return the status [...] of a spectrum: `status`, by default OK, unless the matrix itself or
    its solver says otherwise.
    """
    if status is None:
        status = torch.full_like(esd.eigenvalues_K[..., 0], float(Status.OK))
    for flag, other in (
        (~esd.converged, Status.NOT_CONVERGED),
        (esd.zero, Status.ZERO),
        (~esd.finite, Status.NOT_FINITE),
    ):
        status = torch.where(flag, float(other), status)
    return status


def judge(esd: ESD, fit: TailFit, *, published: bool, minimum: int) -> EstimateRow:
    """Return the row of a fitted tail.

    Args: fit in the scale of `esd.eigenvalues_K`; minimum eigenvalues of a tail's spectrum, 50 in
        published mode.
    """
    if esd.smallest < (PUBLISHED_MINIMUM if published else minimum):
        return EstimateRow.too_small(fit.alpha.shape, fit.alpha.device)
    largest = esd.eigenvalues_K[..., -1]
    log_mean = 1 / (fit.alpha - 1)  # of ln(λ/x_min) over the tail
    status = torch.where(log_mean >= DEGENERATE_LOG, float(Status.OK), float(Status.DEGENERATE))
    deficient = fit.x_min <= DEFICIENT_RATIO * largest
    status = esd_status(esd, torch.where(deficient, float(Status.RANK_DEFICIENT), status))
    coarse = (fit.x_min <= FLOAT32_RATIO * largest) | ~(log_mean >= FLOAT32_LOG)
    solved = esd.finite & ~esd.zero & esd.converged
    return EstimateRow.make(
        status.to(torch.float64),
        fit.alpha,
        torch.ldexp(fit.x_min, 2 * esd.exponent),
        fit.tail_count,
        fit.ks_distance,
        coarse & solved & (esd.precision is torch.float32),
    )
