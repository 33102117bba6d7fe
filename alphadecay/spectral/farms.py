"""α free of the aspect ratio: one spectrum pooled from windows of one fixed shape (FARMS, arXiv
2506.06280).

Shapes: weight_MN, K = min(M, N), windows of H rows and V columns, G of them, pooled_P = all their
    eigenvalues, P = G·min(H, V).
It also changes the α of spectra that are not random, so it is a choice and never applied silently.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from alphadecay.spectral.esd import Spectrum, spectrum_of_gram
from alphadecay.spectral.estimate import MINIMUM, judge
from alphadecay.spectral.gram import gram_lower, prescale
from alphadecay.spectral.status import Status


def window_shape(
    rows: int, columns: int, aspect: float = 1.0, fraction: float = 0.5
) -> tuple[int, int]:
    """(H, V) of the windows of an [M, N] matrix: the short side s = ⌊fraction·K⌋, the long one
    ⌊aspect·s⌋, laid along the matrix.

    Args: aspect ≥ 1, long side over short; fraction in (0, 1] of the smaller side of the matrix.
    Errors: ValueError outside these, or for windows longer than the matrix.
    """
    if not (math.isfinite(aspect) and aspect >= 1 and 0 < fraction <= 1):
        raise ValueError(
            f"aspect={aspect}, fraction={fraction}: need aspect ≥ 1 and 0 < fraction ≤ 1"
        )
    short = int(min(rows, columns) * fraction)
    long = int(short * aspect)
    if long > max(rows, columns):
        raise ValueError(
            f"windows of {short} × {long} do not fit {rows} × {columns}: lower aspect or fraction"
        )
    return (short, long) if rows <= columns else (long, short)


def windows(weight_MN: Tensor, height: int, width: int) -> Tensor:
    """Windows [G, H, V] side by side from the top left corner, without overlap; a strip narrower
    than a window is left out.
    """
    tiles = weight_MN.unfold(0, height, height).unfold(1, width, width)
    return tiles.reshape(-1, height, width)


def _pool(scaled_MN: Tensor, height: int, width: int) -> Spectrum:
    """Eigenvalues of all windows as one spectrum [P]; a window of zeros adds zeros, one NaN
    anywhere marks the whole.
    """
    each = spectrum_of_gram(gram_lower(windows(scaled_MN, height, width)))
    values_GK = torch.where(each.zero[:, None], 0.0, each.eigenvalues_K)
    finite = torch.isfinite(scaled_MN).all()
    zero = finite & each.zero.all()
    pooled_P = torch.where(zero | ~finite, 1.0, values_GK.flatten().sort().values)
    return Spectrum(pooled_P, finite, zero)


def estimate_farms(
    weight_MN: Tensor,
    *,
    aspect: float = 1.0,
    fraction: float = 0.5,
    precision: torch.dtype = torch.float32,
    minimum: int = MINIMUM,
) -> Tensor:
    """PL_Alpha_Hill of the eigenvalues of all windows of a weight, concatenated: α = 1 + k / Σ_tail
    ln(λ_i / λ_{P−k}), k = ⌊P/2⌋.

    Args: weight_MN [M, N], floating; aspect and fraction as in `window_shape`; precision float32,
        or float64 after a row said escalate; minimum eigenvalues of a window, below which the
        status is TOO_SMALL.
    Returns: row [len(FIELDS)] float64, as `estimate`. No host sync but the solver's own.
    Errors: ValueError for another number of dimensions, or from `window_shape`.
    """
    if weight_MN.dim() != 2 or not weight_MN.is_floating_point():
        raise ValueError(
            f"weight is {tuple(weight_MN.shape)} {weight_MN.dtype}: need a floating [M, N] matrix"
        )
    rows, columns = weight_MN.shape
    height, width = window_shape(rows, columns, aspect, fraction)
    if min(height, width) < max(2, minimum):
        values = [math.nan, math.nan, 0.0, math.nan, float(Status.TOO_SMALL), 0.0]
        return torch.tensor(values, dtype=torch.float64, device=weight_MN.device)
    with torch.no_grad():
        scaled_MN, exponent = prescale(weight_MN, precision)
        return judge(
            _pool(scaled_MN, height, width), exponent, precision, tail="hill", published=False
        )
