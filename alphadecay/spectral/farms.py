"""α free of the aspect ratio: one spectrum pooled from windows of one fixed shape (FARMS, arXiv
2506.06280).

Shapes: weight_MN, K = min(M, N), windows of H rows and V columns, G of them, pooled_P all their
    eigenvalues, P = G·min(H, V).
It also changes the α of spectra that are not random, so it is a choice and never applied silently.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from alphadecay.spectral.esd import ESD, esd_of_gram, pooled
from alphadecay.spectral.gram import Gram, gram_lower, on_solving_device, prescale


def window_shape(
    rows: int, columns: int, aspect: float = 1.0, fraction: float = 0.5
) -> tuple[int, int]:
    """Return (H, V) of the windows of an [M, N] matrix: the short side s = ⌊fraction·K⌋, the long
    one ⌊aspect·s⌋, laid along the matrix.

    Args: aspect ≥ 1, long side over short; fraction in (0, 1] of the smaller side of the matrix.

    Raises:
        ValueError: outside these, or windows longer than the matrix.
    """
    if not (math.isfinite(aspect) and aspect >= 1 and 0 < fraction <= 1):
        raise ValueError(
            f"aspect={aspect}, fraction={fraction}: need aspect ≥ 1 and 0 < fraction ≤ 1"
        )
    short = max(1, int(min(rows, columns) * fraction))
    long = int(short * aspect)
    if long > max(rows, columns):
        raise ValueError(
            f"windows of {short} × {long} do not fit {rows} × {columns}: lower aspect or fraction"
        )
    return (short, long) if rows <= columns else (long, short)


def windows(weight_MN: Tensor, height: int, width: int) -> Tensor:
    """Return windows [G, H, V] side by side from the top left corner, without overlap; a strip
    narrower than a window is left out.
    """
    tiles = weight_MN.unfold(0, height, height).unfold(1, width, width)
    return tiles.reshape(-1, height, width)


def esd_by_farms(
    weight_MN: Tensor, precision: torch.dtype, *, aspect: float = 1.0, fraction: float = 0.5
) -> ESD:
    """Return the eigenvalues of all windows of a weight [M, N] as one spectrum [P]; a window of
    zeros adds zeros, and one NaN anywhere marks the whole.

    Raises:
        ValueError: another number of dimensions, or from `window_shape`.
    """
    if weight_MN.dim() != 2:
        raise ValueError(
            f"weight has shape {list(weight_MN.shape)}: farms takes one [M, N] matrix; take the "
            "matrices of a stack one by one"
        )
    rows, columns = weight_MN.shape
    height, width = window_shape(rows, columns, aspect, fraction)
    with torch.no_grad():
        scaled_MN, exponent = prescale(on_solving_device(weight_MN), precision)
        grams = gram_lower(windows(scaled_MN, height, width))
        each = esd_of_gram(Gram(grams, exponent.expand(len(grams))))
        pool = pooled(each)
        # what no window covers counts too
        return pool._replace(finite=pool.finite & torch.isfinite(scaled_MN).all())
