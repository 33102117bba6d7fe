"""AdamW and Adam: torch's own, under names that DeepSpeed's ZeRO stages accept."""

from __future__ import annotations

import sys
from typing import Any

import torch

from alphadecay.optim.gradient_guard import FiniteCheck, guard

_ZERO_UTILS = "deepspeed.runtime.zero.utils"


def allow_in_zero(optimizer_class: type) -> None:
    """Add a class to the optimizers ZeRO takes without `zero_allow_untested_optimizer`; a no-op
    while DeepSpeed is not loaded.

    DeepSpeed compares exact types, so a subclass of a supported optimizer has to be listed by
    itself.
    """
    zero_utils = sys.modules.get(_ZERO_UTILS)
    supported = getattr(zero_utils, "ZERO_SUPPORTED_OPTIMIZERS", None)
    if supported is not None and optimizer_class not in supported:
        supported.append(optimizer_class)


class AdamW(torch.optim.AdamW):
    """torch's AdamW: w ← (1 − lr·λ)·w, then Adam (arXiv 1711.05101).

    Args:
        params: parameters or param groups, as for torch.optim.AdamW.
        lr: learning rate; read again at every step.
        betas: decays of the two moments.
        eps: added to the denominator.
        weight_decay: the base decay, of which AlphaDecay gives every module its own multiple.
        kwargs: further arguments of torch.optim.AdamW (foreach, fused, amsgrad, ...).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        **kwargs: Any,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **kwargs)
        allow_in_zero(type(self))

    def guard(self) -> FiniteCheck:
        """Skip steps whose gradients hold NaN or Inf from here on: see `gradient_guard.guard`."""
        return guard(self)


class Adam(torch.optim.Adam):
    """torch's Adam: g ← g + λ·w, then Adam (arXiv 1412.6980).

    Under AlphaDecay the penalty is added to the gradients in place. Arguments as for AdamW.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **kwargs)
        allow_in_zero(type(self))

    def guard(self) -> FiniteCheck:
        """Skip steps whose gradients hold NaN or Inf from here on: see `gradient_guard.guard`."""
        return guard(self)
