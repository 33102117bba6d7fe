"""SGD with momentum, whose decay is an L2 penalty or decoupled, under names that ZeRO accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from alphadecay.optim.adam import allow_in_zero


class SGD(torch.optim.SGD):
    """torch's SGD: g ← g + λ·w, v ← μ·v + g, w ← w − lr·v (SGD with L2 of arXiv 1711.05101).

    Args:
        params: parameters or param groups, as for torch.optim.SGD.
        lr: learning rate; read again at every step.
        momentum: μ, the share of the last step's v in v.
        weight_decay: the base decay, of which AlphaDecay gives every module its own multiple.
        kwargs: further arguments of torch.optim.SGD (nesterov, foreach, fused, ...).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, **kwargs)
        allow_in_zero(type(self))


class SGDW(SGD):
    """SGD with momentum and decoupled decay: v ← μ·v + g, w ← (1 − lr·λ)·w − lr·v.

    Arguments as for SGD. In Algorithm 1 of arXiv 1711.05101 a schedule η multiplies α·g on its way
    into the momentum, and the decay is η·λ without α. Here, as in torch, lr = η·α multiplies v, and
    the decay as in AdamW: λ here is the paper's over α, and at a constant rate the steps are the
    paper's.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Shrink the weights, and take SGD's step without a decay of its own."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        decays = [group["weight_decay"] for group in self.param_groups]
        for group, decay in zip(self.param_groups, decays, strict=True):
            weights = [p for p in group["params"] if p.grad is not None]
            if decay and weights:
                torch._foreach_mul_(weights, 1.0 - group["lr"] * decay)
            group["weight_decay"] = 0.0
        try:
            super().step()
        finally:
            for group, decay in zip(self.param_groups, decays, strict=True):
                group["weight_decay"] = decay
        return loss
