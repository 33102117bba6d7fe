"""Products as a GPU's tensor cores make them: TF32 keeps ten bits of the factors."""

from __future__ import annotations

import torch

_DROPPED = 13  # of float32's 23 bits


def tf32(values: torch.Tensor) -> torch.Tensor:
    """Round to the nearest number of ten bits, ties to even."""
    bits = values.contiguous().view(torch.int32)
    half = (1 << (_DROPPED - 1)) - 1
    rounded = bits + half + ((bits >> _DROPPED) & 1)
    return (rounded & ~((1 << _DROPPED) - 1)).view(torch.float32)


def following_in_tf32(
    left: torch.Tensor, right: torch.Tensor, before: torch.Tensor
) -> torch.Tensor:
    """Stand in for `chebyshev.following`."""
    return 2 * (tf32(left) @ tf32(right)) - before
