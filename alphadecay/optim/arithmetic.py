"""The numbers of a step's decay: rates, amounts, norms, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from alphadecay.optim.copies import chunks

COARSE = (torch.bfloat16, torch.float16)


def refuse_coarse(dtype: torch.dtype) -> None:
    """Refuse 16-bit weights: 1 - lr * decay rounds to 1, and decay is lost without a word.

    Raises:
        ValueError: it is such a type; the message names the way out.
    """
    if dtype in COARSE:
        raise ValueError(
            f"the optimizer's master weights are {dtype}, in which decay is lost; "
            "keep them in float32 (dtype=torch.float32 where the model is loaded) and compute in "
            "16 bits under torch.autocast, FSDP2's MixedPrecisionPolicy or DeepSpeed's bf16"
        )


def amount_of(key: str, lr: Any, weight_decay: float) -> Any:
    """Return lr * decay, the share of a weight that a step takes away.

    Raises:
        ValueError: it is not below 1.
    """
    amount = lr * weight_decay
    if isinstance(amount, float) and amount >= 1:
        raise ValueError(
            f"{key}: learning rate {lr} times weight decay {weight_decay} is at least 1, so that a "
            "step would turn the weight's sign; lower the learning rate, the weight decay or s2"
        )
    return amount


def rate_of(group: Mapping[str, Any]) -> Any:
    """Return the learning rate: a number, or a tensor where reading it would have to wait."""
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.device.type != "cpu":
        return lr
    return float(lr)


def add_scaled(
    gradients: Sequence[Tensor], weights: Sequence[Tensor], factors: Sequence[float]
) -> None:
    """Add to each gradient its weight times its factor."""
    if gradients[0].device.type == "cpu":
        for gradient, weight, factor in zip(gradients, weights, factors, strict=True):
            gradient.add_(weight, alpha=factor)
        return
    torch._foreach_add_(list(gradients), torch._foreach_mul(list(weights), list(factors)))


def kind_of(tensor: Tensor) -> tuple[torch.device, torch.dtype]:
    """Return what tensors of one launch share."""
    return tensor.device, tensor.dtype


def sum_pieces(products: Callable[..., list[Tensor]], *tensors: Tensor) -> Tensor:
    """Return sums [F] over tensors of one shape, in float64.

    A piece is summed in float32, a few 1e-7 off; so is the whole on a GPU, which sums in a tree.

    Args:
        products: the F sums over pieces of the tensors, such as an `inner` product.
    """
    parts = [torch.stack(products(*pieces)) for pieces in chunks(*tensors)]
    return torch.stack(parts).sum(0, dtype=torch.float64)


def inner(left: Tensor, right: Tensor) -> Tensor:
    """Return an inner product in float32, or in float64 for such tensors."""
    wide = torch.promote_types(torch.promote_types(left.dtype, right.dtype), torch.float32)
    left = left.to(wide)
    right = right.to(wide)
    if left.is_contiguous() and right.is_contiguous():
        return torch.dot(left.view(-1), right.view(-1))
    return (left * right).sum()


def magnitude(tensor: Tensor) -> Tensor:
    """Return sum |x| in float32, or in float64 for such a tensor."""
    return tensor.abs().sum(dtype=torch.promote_types(tensor.dtype, torch.float32))
