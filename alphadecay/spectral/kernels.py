"""Convolutions as the published code sees them: one spectrum, pooled over the kernel's positions.

Shapes: weight_MN [O, I·k], k positions of the kernel, stack [k, O, I].
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from alphadecay.spectral.esd import ESD, pooled

PUBLISHED_SCALE = math.sqrt(0.5)


def esd_of_kernel(weight_MN: Tensor, positions: int, take: Callable[[Tensor], ESD]) -> ESD:
    """Return the eigenvalues of the matrices of all positions, times 0.5, as one spectrum."""
    stack = weight_MN.unflatten(1, (-1, positions)).movedim(-1, 0) * PUBLISHED_SCALE
    pool = pooled(take(stack))
    return pool._replace(smallest=pool.eigenvalues_K.shape[-1])
