"""Has linear layers compute with ternary weights and 8-bit inputs, so that they can be trained for
it: the BitLinear of BitNet b1.58 (arXiv 2402.17764), by mean or median (arXiv 2407.09527).

A weight W becomes s · Q, with s the mean or the median of |W| and Q = W / s rounded to -1, 0 or 1.
An input is normalised as LayerNorm does, without gain or bias, and rounded to 256 levels of its own
largest value: the paper's code takes the norm over all positions of a row, which would show a
language model what is to come; here each position has its own. Gradients pass the rounding as if it
were not there, and go to W: the latent weight, which the optimizer has, and AlphaDecay measures.

Shapes: I inputs, O outputs; before I an input may have more dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

LEVELS = 128  # of an 8-bit input on each side of zero; the largest is 127
LEAST = 1e-5  # scale of what is all zeros

SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "b158-mean": torch.mean,
    "b158-median": torch.median,
}


def ternary(weight: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Return Q, of the weight's shape and type, and s, float32 or wider: s · Q is near the weight.

    Args:
        weight: [O, I].
        kind: a key of SCALES.
    """
    wide = _wide(weight)
    scale = SCALES[kind](wide.abs()).clamp(min=LEAST)
    return (wide / scale).round().clamp(-1, 1).to(weight.dtype), scale


def eight_bits(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return levels, whole numbers of the inputs' shape and type, and scales [..., 1], of which the
    product is near the inputs.
    """
    wide = _wide(inputs)
    scales = wide.abs().amax(-1, keepdim=True).clamp(min=LEAST) / LEVELS
    return (wide / scales).round().clamp(-LEVELS, LEVELS - 1).to(inputs.dtype), scales


class _Product(torch.autograd.Function):
    """Multiplies what both are rounded to. It keeps both as they were and rounds them again in the
    backward pass: kept, the rounded weights would be a second model.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight_OI: Tensor, kind: str) -> Tensor:
        ctx.save_for_backward(inputs, weight_OI)
        ctx.kind = kind
        levels, input_scales = eight_bits(inputs)
        ternary_OI, weight_scale = ternary(weight_OI, kind)
        product = levels @ ternary_OI.T
        return (product * (input_scales * weight_scale)).to(product.dtype)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        inputs, weight_OI = ctx.saved_tensors
        levels, input_scales = eight_bits(inputs)
        ternary_OI, weight_scale = ternary(weight_OI, ctx.kind)
        by_inputs = (gradient * weight_scale).to(gradient.dtype) @ ternary_OI
        scaled = (gradient * input_scales).to(gradient.dtype)
        by_weight_OI = scaled.flatten(0, -2).T @ levels.flatten(0, -2)
        return by_inputs, by_weight_OI, None


class BitLinear(nn.Linear):
    """A linear layer whose weight and input are rounded when they are multiplied."""

    kind: str

    def forward(self, input: Tensor) -> Tensor:
        """Return outputs [..., O] of inputs [..., I]."""
        normal = functional.layer_norm(input, (self.in_features,))
        product = cast(Tensor, _Product.apply(normal, self.weight, self.kind))
        return product if self.bias is None else product + self.bias


def quantise(layers: Iterable[nn.Module], kind: str) -> None:
    """Have every linear layer inside these compute so; names, weights and hooks stay.

    Args:
        kind: a key of SCALES.
    """
    for layer in layers:
        for module in layer.modules():
            if type(module) is nn.Linear:
                module.__class__ = BitLinear
                cast(BitLinear, module).kind = kind


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
