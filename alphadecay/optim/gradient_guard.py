"""NaN and Inf among the gradients, looked for where nobody else does: at DeepSpeed's stage 0 in
float32, and in plain loops.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from types import MethodType
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
        """Take the norm of the coming step's gradients from whoever has computed it already; it
        spares a pass over them.
        """
        self.norm = norm
        self._known = True

    def check(self, param_groups: Sequence[Mapping[str, Any]]) -> bool:
        """Return True where the norm is finite; one host synchronisation.

        Collective under FSDP2, where gradients are shards. A norm that overflows float32 counts as
        not finite: Adam's second moments would overflow with it, and stay so.
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
    """Return the norm of all gradients together, mesh by mesh, for torch does not mix them."""
    if not gradients:
        return torch.zeros(())
    alike: dict[int, list[Tensor]] = {}
    for gradient in gradients:
        alike.setdefault(id(getattr(gradient, "device_mesh", None)), []).append(gradient)
    norms = [torch.nn.utils.get_total_norm(some, foreach=True) for some in alike.values()]
    whole = [norm.full_tensor() if hasattr(norm, "full_tensor") else norm for norm in norms]
    return torch.linalg.vector_norm(torch.stack(whole)) if len(whole) != 1 else whole[0]


def guard(optimizer: Any) -> FiniteCheck:
    """Have `optimizer` skip every step whose gradients hold NaN or Inf, and count it in its
    `skipped_steps`; a second call changes nothing.

    For loops in which nobody else checks: one process, DDP, FSDP2. All ranks skip the same steps;
    under FSDP2 the step is collective then. A closure is evaluated once, before the check.
    """
    if isinstance(found := getattr(optimizer, _GUARD, None), FiniteCheck):
        return found
    check = FiniteCheck()
    step = optimizer.step

    @wraps(step)  # a learning-rate scheduler has marked it, and would warn
    def guarded(self: Any, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.overflow = not check.check(self.param_groups)  # DeepSpeed's engine reads both
        self._global_grad_norm = check.norm
        if self.overflow:
            self.skipped_steps += 1
        else:
            step()
        return loss

    optimizer.skipped_steps = 0
    optimizer.step = MethodType(guarded, optimizer)
    setattr(optimizer, _GUARD, check)
    return check


def unguard(optimizer: Any) -> None:
    """Give a guarded optimizer its own step() back."""
    for name in (_GUARD, "step", "skipped_steps", "overflow", "_global_grad_norm"):
        vars(optimizer).pop(name, None)


def guard_stage0(engine: Any, optimizer: Any) -> Callable[[], None]:
    """Guard `optimizer` where DeepSpeed does not look: at stage 0 in float32, else a no-op.

    The norm by which DeepSpeed clips there, and which it throws away, is kept: it answers the
    question, and `engine.get_global_grad_norm()` returns it as at the other stages.

    Returns:
        What undoes it, where there was no guard before.
    """
    if engine.optimizer is not optimizer or hasattr(optimizer, _GUARD):  # a wrapper checks
        return lambda: None
    clip_grad_norm_ = sys.modules[_DEEPSPEED_UTILS].clip_grad_norm_
    check = guard(optimizer)

    def clip() -> None:
        norm = clip_grad_norm_(
            parameters=engine.module.parameters(),
            max_norm=engine.gradient_clipping(),
            mpu=engine.mpu,
        )
        check.know(norm)

    def undo() -> None:
        vars(engine).pop("clip_fp32_gradients", None)
        unguard(optimizer)

    engine.clip_fp32_gradients = clip
    return undo


def forget_dry_run(optimizer: torch.optim.Optimizer) -> bool:
    """Clear Adam's state where all it has seen is one step on zero gradients. True where it did.

    DeepSpeed's stage 0 in 16 bits takes such a step at initialisation, to allocate. Kept, it would
    count in the bias correction.
    """
    states = list(optimizer.state.values())
    seen = [
        state
        for state in states
        if float(state.get("step", 0)) != 1 or bool(state.get("exp_avg_sq", torch.ones(1)).any())
    ]
    if seen or not states:
        return False
    optimizer.state.clear()
    return True
