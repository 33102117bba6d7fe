"""Tail fits that search their cut-off: goodness-of-fit and fix-finger.

Shapes: values_K float64, ascending; candidate i means x_min = λ[i] and the tail λ[i:], of which
    x_min is the first. R rows, C columns.
These run on the host, one spectrum at a time: the number of candidates examined depends on the
    numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from alphadecay.spectral.esd import ESD
from alphadecay.spectral.hill import TINY, TailFit

BOUND_STRIDE = 32  # distance of the columns of the first pass; 16 was slower at n = 2048
ROW_CHUNK = 16  # rows computed at once by the second
BINS = 100  # of the fix-finger histogram
WINDOW = (0.95, 1.5)  # of the peak, where fix-finger looks for x_min
LEAST_SPECTRUM = 8  # eigenvalues that must be numerically positive
POSITIVE_RATIO = 1e-12  # of λmax


def exponents(logs_K: Tensor) -> Tensor:
    """Return α_i = 1 + (K − i) / Σ_{j≥i} (ln λ_j − ln λ_i) for every candidate i, [K]; inf where
    the tail is all equal.
    """
    size = logs_K.shape[-1]
    counts_K = size - torch.arange(size, dtype=logs_K.dtype)
    sums_K = logs_K.flip(0).cumsum(0).flip(0) - counts_K * logs_K
    rounding = size * torch.finfo(logs_K.dtype).eps * logs_K.abs().amax()
    return torch.where(sums_K > rounding, 1 + counts_K / sums_K, math.inf)


def _gaps(logs_K: Tensor, alphas_K: Tensor, rows_R: Tensor, columns_C: Tensor) -> Tensor:
    """Return |F_i(λ_j) − (j − i)/(K − i)| for candidates i in rows_R at columns_C [C] or [R, C], as
    [R, C]; −1 where j < i.
    """
    size = logs_K.shape[-1]
    first_R1 = rows_R[:, None]
    model_RC = -torch.expm1((1 - alphas_K[first_R1]) * (logs_K[columns_C] - logs_K[first_R1]))
    empirical_RC = (columns_C - first_R1) / (size - first_R1).to(logs_K.dtype)
    return torch.where(columns_C >= first_R1, (model_RC - empirical_RC).abs_(), -1.0)


def best_cutoff(logs_K: Tensor, alphas_K: Tensor, candidates_R: Tensor) -> tuple[int, float]:
    """Return the candidate i of least Kolmogorov–Smirnov distance, and that distance D_i =
    max_{j≥i} |F_i(λ_j) − (j − i)/(K − i)|; the first of equals; exact.

    A bound comes first: D_i taken over every 32nd column only, and so never above D_i. Whole rows
    follow in order of the bound, until the next bound exceeds the best distance found: what is left
    cannot win.

    Args: logs_K, alphas_K [K]; candidates_R [R] int64, R ≥ 1.
    """
    size = logs_K.shape[-1]
    coarse_C = torch.arange(size - 1, -1, -BOUND_STRIDE)
    bounds_R, order_R = torch.sort(
        _gaps(logs_K, alphas_K, candidates_R, coarse_C).amax(-1), stable=True
    )
    best = math.inf
    index = -1
    for start in range(0, len(order_R), ROW_CHUNK):
        if bounds_R[start] > best:
            break
        rows_R = candidates_R[order_R[start : start + ROW_CHUNK]]
        exact_R = _gaps(logs_K, alphas_K, rows_R, torch.arange(int(rows_R.min()), size)).amax(-1)
        distance, row = min(zip(exact_R.tolist(), rows_R.tolist(), strict=True))
        best, index = min((best, index), (distance, row)) if index >= 0 else (distance, row)
    return index, best


def peak(values_K: Tensor) -> float:
    """Return the left edge of the fullest of 100 equal bins of log10 λ, in the unit of λ."""
    logs_K = values_K.log10()
    low = float(logs_K[0])
    high = float(logs_K[-1])
    counts = torch.histc(logs_K, BINS, min=low, max=high)
    fullest = int((counts == counts.max()).nonzero()[0])
    return float(10 ** (low + (high - low) * fullest / BINS))


def _candidates(values_K: Tensor, alphas_K: Tensor, finger: bool, published: bool) -> Tensor:
    """Return the indices that may be x_min: a finite α, two eigenvalues or more, the first of
    equal values, and inside fix-finger's window.
    """
    allowed_K = torch.isfinite(alphas_K)
    allowed_K[-1] = False
    if not published:
        allowed_K[1:] &= values_K[1:] > values_K[:-1]
    if finger:
        top = peak(values_K)
        lowest = math.log10(WINDOW[0] * top) if published else WINDOW[0] * top
        allowed_K &= (values_K >= lowest) & (values_K <= WINDOW[1] * top)
    return allowed_K.nonzero()[:, 0]


def search(
    eigenvalues_K: Tensor, *, finger: bool, published: bool
) -> tuple[float, float, float, float]:
    """Return (alpha, x_min, tail count, KS distance) of one spectrum [K] on the host; NaN α where
    no cut-off is left, x_min 0 where the spectrum is all but zero.

    goodness-of-fit: the x_min of least KS distance among all λ_i but the last  (Clauset, Shalizi,
        Newman 2009).
    fix-finger: the same among 0.95·p ≤ λ_i ≤ 1.5·p, p the peak of the histogram of log10 λ.
    published: its lower end is log10(0.95·p), which compares a logarithm with λ, and numerically
        zero eigenvalues stay in.
    """
    values_K = (
        eigenvalues_K.clamp_min(TINY)
        if published
        else eigenvalues_K[eigenvalues_K > POSITIVE_RATIO * eigenvalues_K[-1]]
    )
    if values_K.shape[0] < LEAST_SPECTRUM:
        return math.nan, 0.0, 0.0, math.nan
    logs_K = values_K.log()
    alphas_K = exponents(logs_K)
    candidates_R = _candidates(values_K, alphas_K, finger, published)
    if not len(candidates_R):
        return math.nan, float(values_K[0]), 0.0, math.nan
    index, distance = best_cutoff(logs_K, alphas_K, candidates_R)
    return (
        float(alphas_K[index]),
        float(values_K[index]),
        float(values_K.shape[0] - index),
        distance,
    )


def search_esd(esd: ESD, *, finger: bool, published: bool) -> TailFit:
    """Return `search` of every spectrum of a stack. Synchronises with the host.

    The published window depends on the unit of the eigenvalues, which is the weight's, squared.

    Returns: TailFit of [...] on the same device, x_min in the scale of `esd.eigenvalues_K`.
    """
    stack = esd.eigenvalues_K.shape[:-1]
    spectra_BK = (
        esd.eigenvalues_K.to("cpu").flatten(0, -2) if stack else esd.eigenvalues_K.cpu()[None]
    )
    units_B = torch.ldexp(torch.ones(stack, dtype=torch.float64), 2 * esd.exponent.cpu()).reshape(
        -1
    )
    if not published:
        units_B = torch.ones_like(units_B)
    rows = [
        search(one_K * unit, finger=finger, published=published)
        for one_K, unit in zip(spectra_BK, units_B, strict=True)
    ]
    packed = torch.tensor(rows, dtype=torch.float64).reshape(*stack, 4)
    packed[..., 1] /= units_B.reshape(stack)
    return TailFit(*packed.to(esd.eigenvalues_K.device).unbind(-1))


def fit_goodness_of_fit(esd: ESD, published: bool) -> TailFit:
    """Return the tails of least Kolmogorov–Smirnov distance."""
    return search_esd(esd, finger=False, published=published)


def fit_fix_finger(esd: ESD, published: bool) -> TailFit:
    """Return the same among those that begin near the peak of the histogram."""
    return search_esd(esd, finger=True, published=published)
