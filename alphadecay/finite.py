"""NaN and Inf among the gradients, looked for where nobody else does: at DeepSpeed's stage 0 in
float32, and in plain loops.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor

_DEEPSPEED_UTILS = "deepspeed.runtime.utils"
_GUARD = "_alphadecay_guard"


class FiniteCheck:
    """Whether a step's gradients are finite: the same answer on every rank that shares or shards
    them.

    Attributes:
        failed: what the last check found.
        norm: 2-norm of the last step's gradients, before clipping.
    """

    def __init__(self) -> None:
        self.failed = False
        self.norm: Tensor | None = None
        self._known = False

    def know(self, norm: Tensor) -> None:
        """Takes the norm of the coming step's gradients from whoever has computed it already;
        spares a pass over them.
        """
        self.norm = norm
        self._known = True

    def check(self, param_groups: Sequence[Mapping[str, Any]]) -> bool:
        """True where the norm is finite; one host synchronisation.

        Collective under FSDP2, where gradients are shards.

        A norm that overflows float32 counts as not finite: Adam's second moments would overflow
            with it, and stay so.
        """
        if not self._known:
            self.norm = _norm(
                [p.grad for group in param_groups for p in group["params"] if p.grad is not None]
            )
        self._known = False
        assert self.norm is not None
        self.failed = not math.isfinite(self.norm)
        return not self.failed


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    """Of all of them together; those that share a mesh at a time, for torch does not mix them."""
    if not gradients:
        return torch.zeros(())
    alike: dict[int, list[Tensor]] = {}
    for gradient in gradients:
        alike.setdefault(id(getattr(gradient, "device_mesh", None)), []).append(gradient)
    norms = [torch.nn.utils.get_total_norm(some, foreach=True) for some in alike.values()]
    whole = [norm.full_tensor() if hasattr(norm, "full_tensor") else norm for norm in norms]
    return torch.linalg.vector_norm(torch.stack(whole)) if len(whole) != 1 else whole[0]


def guard_stage0(engine: Any, optimizer: Any) -> None:
    """Has `optimizer` skip steps whose gradients are not finite where DeepSpeed does not look: at
    stage 0 in float32, else a no-op.

    The norm by which DeepSpeed clips there, and which it throws away, is kept: it answers the
        question, and
    `engine.get_global_grad_norm()` returns it as at the other stages.
    """
    if engine.optimizer is not optimizer:  # a wrapper, which checks
        return
    clip_grad_norm_ = sys.modules[_DEEPSPEED_UTILS].clip_grad_norm_
    check = optimizer.guard() if hasattr(optimizer, "guard") else _guard_another(optimizer)

    def clip() -> None:
        norm = clip_grad_norm_(
            parameters=engine.module.parameters(),
            max_norm=engine.gradient_clipping(),
            mpu=engine.mpu,
        )
        check.know(norm)

    engine.clip_fp32_gradients = clip


def _guard_another(optimizer: Any) -> FiniteCheck:
    """The same for an optimizer that is not ours: its step() is replaced, once."""
    if isinstance(found := getattr(optimizer, _GUARD, None), FiniteCheck):
        return found
    check = FiniteCheck()
    step = optimizer.step

    @wraps(step)  # a learning-rate scheduler has marked it, and would warn
    def guarded(*args: Any, **kwargs: Any) -> Any:
        optimizer.overflow = not check.check(optimizer.param_groups)
        optimizer._global_grad_norm = check.norm
        return None if optimizer.overflow else step(*args, **kwargs)

    optimizer.step = guarded
    setattr(optimizer, _GUARD, check)
    return check
