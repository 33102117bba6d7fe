"""A weight matrix, brought to a safe scale, and its Gram matrix.

Shapes: weight_MN the weight (leading dimensions are a stack), K = min(M, N), L = max(M, N),
    matrix_KK the Gram of the smaller side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

COLUMN_BLOCKS = 4  # eigvalsh(UPLO="L") reads one triangle: 4 column blocks skip 3/8 of the product
PLAIN_EXPONENT = 16  # up to 2**±16 squares are safe as they are, and the CPU saves a pass
EXPONENT_LIMIT = {torch.float32: 126, torch.float64: 1022}  # 2**±limit is a normal number


class Gram(NamedTuple):
    """This is a Gram matrix to solve now or at a later step.

    matrix_KK: [..., K, K] of the weight times 2**−exponent; the lower triangle is right. A NaN or
        Inf in the weight shows as a NaN or Inf on its diagonal.
    exponent: [...] int32; the Gram of the weight itself is 4**exponent times this one.
    """

    matrix_KK: Tensor
    exponent: Tensor

    @property
    def side(self) -> int:
        """K."""
        return self.matrix_KK.shape[-1]

    @classmethod
    def stack(cls, grams: Sequence[Gram]) -> Gram:
        """Return Grams of one side as one, the stack first."""
        return cls(*map(torch.stack, zip(*grams, strict=True)))


@cache
def has_float64(device_type: str) -> bool:
    """Return whether a kind of device computes in float64; "mps" does not."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device_type)
    except (TypeError, RuntimeError):
        return False
    return True


def on_solving_device(weight: Tensor) -> Tensor:
    """Return the weight where its spectrum can be computed: where it lies, or else on the CPU."""
    weight = weight.detach()
    return weight if has_float64(weight.device.type) else weight.cpu()


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Run matrix products inside in IEEE float32 (no TF32, no autocast), without autograd.

    The caller's settings come back after. They are the process's: no other thread may multiply
    meanwhile.
    """
    with _products(device, "ieee", "highest"):
        yield


@contextmanager
def reduced_precision(device: torch.device) -> Iterator[None]:
    """Run float32 products inside in TF32 on a GPU, several times faster; as `full_precision` on
    any other device.
    """
    if device.type == "cuda":
        with _products(device, "tf32", "high"):
            yield
    else:
        with full_precision(device):
            yield


@contextmanager
def _products(device: torch.device, modern_name: str, older_name: str) -> Iterator[None]:
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    matmul = getattr(backend, "matmul", None)
    # the older torch has one setting for all devices, and none for CPUs alone
    modern = hasattr(matmul, "fp32_precision")
    wanted = modern_name if modern else older_name
    before = _precision(matmul, modern)
    try:
        if before != wanted:
            _set_precision(matmul, modern, wanted)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        if before != wanted:
            _set_precision(matmul, modern, before)


def _precision(matmul: Any, modern: bool) -> str:
    return str(matmul.fp32_precision) if modern else torch.get_float32_matmul_precision()


def _set_precision(matmul: Any, modern: bool, value: str) -> None:
    if modern:
        matmul.fp32_precision = value
    else:
        torch.set_float32_matmul_precision(value)


def largest_entry(weight_MN: Tensor) -> Tensor:
    """Return max |w| of a matrix [..., M, N] as [...]; NaN where an entry is.

    No copy of the weight is made, as abs() would.
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
    # in one pass: the factor's type is the product's
    return (weight_MN * factor[..., None, None]).to(precision), exponent


def gram_lower(weight_MN: Tensor) -> Tensor:
    """Return the Gram of the smaller side, W·Wᵀ if M ≤ N, else Wᵀ·W: its block-lower triangle only;
    the rest is zero.

    Args: weight_MN [..., M, N] of the precision wanted. Returns: [..., K, K], same dtype, whose
        lower triangle is right.
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


def take_gram(weight_MN: Tensor, precision: torch.dtype = torch.float32) -> Gram:
    """Return the prescaled Gram of the smaller side.

    Args: weight_MN [..., M, N], floating, min(M, N) ≥ 2; precision float32 or float64. No host
        sync.
    """
    with torch.no_grad():
        scaled_MN, exponent = prescale(on_solving_device(weight_MN), precision)
        return Gram(gram_lower(scaled_MN), exponent)
