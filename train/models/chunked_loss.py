"""Computes head and cross-entropy in chunks of rows, of torch's own parts.

The logits of all rows are never in memory at once. The forward pass computes the gradients along
with the loss, chunk by chunk, and the backward pass only scales them: logits are computed once, and
what is kept is as large as the inputs.

Shapes: N rows, C rows of a chunk, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

IGNORED = -100  # torch's label of a row that does not count
CHUNK = 1 << 25  # logits of a chunk: 1,024 rows of 32 k pieces
# At most, in bf16 and not compiled: the logit, the same in float32, which becomes its gradient,
# whether it is the target's, and on a CPU that in float32.
_BYTES_OF_A_LOGIT = 2 + 4 + 1 + 4

ChunkGradients = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def chunk_gradients(
    hidden_CD: Tensor, weight_VD: Tensor, labels_C: Tensor, z_loss: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the summed loss of some rows, and its gradients by their inputs and the weight.

    The sum is in float32 or wider, the gradients have the type of the inputs.

    Args:
        z_loss: coefficient of log² Z, which is added to each row's loss (arXiv 2309.14322); its
            gradient by the logits is 2 · log Z · softmax.
    """
    logits_CV = functional.linear(hidden_CD, weight_VD)
    wide_CV = logits_CV.to(torch.promote_types(logits_CV.dtype, torch.float32))
    counts_C1 = (labels_C != IGNORED).unsqueeze(1)
    target_C1 = labels_C.clamp(min=0).unsqueeze(1)
    log_sum_C1 = wide_CV.logsumexp(1, keepdim=True)
    losses_C1 = log_sum_C1 - wide_CV.gather(1, target_C1) + z_loss * log_sum_C1.square()
    loss = (losses_C1 * counts_C1).sum()
    columns_V = torch.arange(wide_CV.shape[1], device=wide_CV.device)
    # softmax - one-hot, in the memory of the logits
    gradient_CV = wide_CV.sub_(log_sum_C1).exp_().mul_(1 + 2 * z_loss * log_sum_C1)
    gradient_CV.add_(columns_V == target_C1, alpha=-1).mul_(counts_C1)
    narrow_CV = gradient_CV.to(logits_CV.dtype)
    return loss, narrow_CV @ weight_VD, narrow_CV.T @ hidden_CD


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        gradients_of: ChunkGradients,
    ) -> Tensor:
        wide = torch.promote_types(hidden_ND.dtype, torch.float32)
        loss = torch.zeros((), dtype=wide, device=hidden_ND.device)
        by_hidden_ND = torch.empty_like(hidden_ND)
        by_weight_VD = torch.zeros_like(weight_VD, dtype=wide)
        for rows in _chunks(len(hidden_ND), len(weight_VD)):
            part, by_hidden, by_weight = gradients_of(hidden_ND[rows], weight_VD, labels_N[rows])
            loss += part
            by_hidden_ND[rows] = by_hidden
            by_weight_VD += by_weight
        # a tensor of the device: the host waits for nothing
        share = (labels_N != IGNORED).sum().to(wide).reciprocal()
        ctx.save_for_backward(by_hidden_ND, by_weight_VD, share)
        ctx.weight_dtype = weight_VD.dtype
        return loss * share

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_hidden_ND, by_weight_VD, share = ctx.saved_tensors
        scale = gradient * share
        by_weight = (by_weight_VD * scale).to(ctx.weight_dtype)
        return (by_hidden_ND * scale).to(by_hidden_ND.dtype), by_weight, None, None


def chunked_cross_entropy(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    labels_N: Tensor,
    gradients_of: ChunkGradients = chunk_gradients,
) -> Tensor:
    """Return the mean cross-entropy of `hidden @ weight.T` over the rows that count.

    Args:
        hidden_ND: inputs of the head.
        weight_VD: its weight.
        labels_N: int64, IGNORED where a row does not count.
        gradients_of: `chunk_gradients`, with a z-loss or compiled.
    """
    loss: Tensor = _ChunkedLoss.apply(hidden_ND, weight_VD, labels_N, gradients_of)
    return loss


def chunk_bytes(rows: int, vocabulary: int) -> int:
    """Return the most bytes that the logits of a chunk take, and what is made of them."""
    largest = _chunks(rows, vocabulary)[0]
    return _BYTES_OF_A_LOGIT * (largest.stop - largest.start) * vocabulary


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    """Cut rows into as few chunks as may be; up to twice as many where these are of equal size.

    Compiled code is for one size.
    """
    least = -(-rows * vocabulary // CHUNK)
    count = next((count for count in range(least, 2 * least + 1) if rows % count == 0), least)
    size = -(-rows // count)
    return [slice(start, start + size) for start in range(0, rows, size)]
