"""A weight matrix, brought to a safe scale, and its Gram matrix.

Shapes: weight_MN the weight (leading dimensions are a stack), K = min(M, N), L = max(M, N), gram_KK
    the Gram of the smaller side.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

COLUMN_BLOCKS = 4  # eigvalsh(UPLO="L") reads one triangle: 4 column blocks skip 3/8 of the product
PLAIN_EXPONENT = 16  # up to 2**±16 squares are safe as they are, and the CPU saves a pass
EXPONENT_LIMIT = {torch.float32: 126, torch.float64: 1022}  # 2**±limit is a normal number


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Matrix products inside are IEEE float32 (no TF32, no autocast), without autograd; the
    caller's settings come back after.
    """
    backend = torch.backends.cuda.matmul if device.type == "cuda" else torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    name, value = (
        ("fp32_precision", "ieee") if hasattr(backend, "fp32_precision") else ("allow_tf32", False)
    )
    before = getattr(backend, name, None)
    if before is not None and before != value:
        setattr(backend, name, value)
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        if before is not None and before != value:
            setattr(backend, name, before)


def largest_entry(weight_MN: Tensor) -> Tensor:
    """max |w| of a matrix [..., M, N], [...]; NaN where an entry is.

    No copy of the weight, as abs() would make.
    """
    if weight_MN.dim() == 2:  # many times faster than the same with dimensions
        lowest, highest = torch.aminmax(weight_MN)
    else:
        lowest = weight_MN.amin((-2, -1))
        highest = weight_MN.amax((-2, -1))
    return torch.maximum(-lowest, highest)


def prescale(weight_MN: Tensor, precision: torch.dtype) -> tuple[Tensor, Tensor]:
    """Scale by a power of two, 2**-e, so that the largest |entry| lies in [0.5, 1), or within
    2**±16 of 1 on a CPU.

    α has no scale, and the squares then neither overflow nor underflow.

    Args: weight_MN [..., M, N] of any floating dtype; precision of the result (float32 or float64).
    Returns: scaled [..., M, N] and the exponent e [...] (int32, 0 where an entry is NaN or Inf or
        all are zero). No host sync.
    """
    work = torch.float64 if torch.float64 in (weight_MN.dtype, precision) else torch.float32
    largest = largest_entry(weight_MN).to(work)
    usable = torch.isfinite(largest) & (largest > 0)
    exponent = torch.frexp(torch.where(usable, largest, 0.5)).exponent.clamp(
        -EXPONENT_LIMIT[work], EXPONENT_LIMIT[work]
    )
    # a branch on a CPU tensor waits for nothing
    if exponent.device.type == "cpu" and bool((exponent.abs() <= PLAIN_EXPONENT).all()):
        return weight_MN.to(precision), torch.zeros_like(exponent)
    factor = torch.ldexp(torch.ones_like(largest), -exponent)
    return (weight_MN.to(work) * factor[..., None, None]).to(precision), exponent


def gram_lower(weight_MN: Tensor) -> Tensor:
    """Gram of the smaller side, W·Wᵀ if M ≤ N, else Wᵀ·W, its block-lower triangle only; the rest
    is zero.

    Args: weight_MN [..., M, N] of the precision wanted. Returns: gram_KK [..., K, K], same dtype,
        whose lower triangle is right.
    """
    side_KL = weight_MN if weight_MN.shape[-2] <= weight_MN.shape[-1] else weight_MN.mT
    size = side_KL.shape[-2]
    gram_KK = weight_MN.new_zeros((*side_KL.shape[:-1], size))
    width = -(-size // COLUMN_BLOCKS)
    with full_precision(weight_MN.device):
        for start in range(0, size, width):
            block = slice(start, start + width)
            target = gram_KK[..., start:, block]
            torch.matmul(side_KL[..., start:, :], side_KL[..., block, :].mT, out=target)
    return gram_KK


def take_gram(weight_MN: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """Prescaled Gram of the smaller side: one tensor to keep, and to solve at a later step with
    `estimate_from_gram`.

    The corner gram_KK[..., 0, -1], above the diagonal and so never read by the solver, holds the
    exponent e: the Gram of the weight itself is 4**e times this one. A NaN or Inf in the weight
    shows as a NaN or Inf on the diagonal.

    Args: weight_MN [..., M, N], floating, min(M, N) ≥ 2; precision float32 or float64. Returns:
        gram_KK [..., K, K]. No host sync.
    """
    with torch.no_grad():
        scaled_MN, exponent = prescale(weight_MN, precision)
        gram_KK = gram_lower(scaled_MN)
        gram_KK[..., 0, -1] = exponent.to(gram_KK.dtype)
    return gram_KK


def gram_exponent(gram_KK: Tensor) -> Tensor:
    """The exponent e [...] that `take_gram` left in the corner of gram_KK [..., K, K]."""
    return gram_KK[..., 0, -1].to(torch.float64)
