"""One matrix: its spectrum, its tail and its scores, as a refresh of AlphaDecay measures them.

Shapes: weight_MN the matrix, eigenvalues_K ascending, in the unit of the weight, squared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from alphadecay.spectral import SCORES, TAILS, Estimate, Status, to_estimate
from alphadecay.spectral.esd import ESD, esd_by_gram
from alphadecay.spectral.judge import MINIMUM, judge
from alphadecay.spectral.row import EstimateRow


@dataclass(frozen=True)
class Spectrum:
    """This is what was measured of a matrix.

    Args:
        estimate: the fit of its tail, or why there is none.
        scores: norms, stable rank and entropy by name; NaN where there is none.
        eigenvalues: [K] float64 on the CPU, of WᵀW; empty for a matrix that has none.
    """

    estimate: Estimate
    scores: dict[str, float]
    eigenvalues: Tensor


def precision_of(tail: str) -> torch.dtype:
    """Return what a matrix is measured in at first.

    A search picks one cut-off out of many, which float32's noise could move.
    """
    return torch.float32 if tail == "hill" else torch.float64


def take_spectrum(weight_MN: Tensor, tail: str = "hill") -> Spectrum:
    """Measure a matrix in float32, and again in float64 where float32 is not enough.

    That is what AlphaDecay does at a refresh, so that alpha is its own.

    Args: tail: a key of TAILS.
    """
    if min(weight_MN.shape) < 2:
        row = EstimateRow.too_small((), weight_MN.device)
        return Spectrum(to_estimate(row.pack().tolist()), _no_scores(), torch.empty(0).double())
    if weight_MN.dtype.itemsize == 1:  # 8-bit floats, which torch only converts
        weight_MN = weight_MN.float()
    esd = esd_by_gram(weight_MN, precision_of(tail))
    estimate = _fit(esd, tail)
    if estimate.escalate:
        esd = esd_by_gram(weight_MN, torch.float64)
        estimate = _fit(esd, tail)
    if estimate.status in (Status.NOT_FINITE, Status.NOT_CONVERGED):
        return Spectrum(estimate, _no_scores(), torch.empty(0).double())
    values_K = esd.in_weight_units().cpu()
    return Spectrum(estimate, _scores(values_K), values_K)


def _fit(esd: ESD, tail: str) -> Estimate:
    row = judge(esd, TAILS[tail](esd, False), published=False, minimum=MINIMUM)
    return to_estimate(row.pack().tolist())


def _scores(values_K: Tensor) -> dict[str, float]:
    return {name: float(score(values_K)) for name, score in SCORES.items()}


def _no_scores() -> dict[str, float]:
    return dict.fromkeys(SCORES, math.nan)
