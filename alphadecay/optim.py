"""Adam and AdamW whose decay is per module, applied to fragments inside step().

Until AlphaDecay binds them they are torch's own: one decay per param group. Bound, the groups'
weight_decay is 0 for whoever reads it (DeepSpeed copies it around), the base decay is kept in the
group, and `step()` decays each fragment by its own amount. A step that an engine skips for overflow
never calls `step()`, so its decay is skipped too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from alphadecay.finite import FiniteCheck
from alphadecay.fragments import BASE_KEY, Fragments, base_weight_decay

_ZERO_UTILS = "deepspeed.runtime.zero.utils"
_TAKEN = "_alphadecay_state_dict_hook"
_SCALES = "_step_supports_amp_scaling"  # read by torch.amp.GradScaler


def take_over_weight_decay(optimizer: torch.optim.Optimizer) -> None:
    """Moves every group's weight_decay to its base decay.

    Again after a load: checkpoints carry the groups' values.

    From here on the optimizer's step() finds unscaled gradients under a GradScaler, which leaves
    unscaling to fused kernels otherwise: a step that it skips is not taken, and a penalty is not
    added to scaled gradients.
    """
    if not hasattr(optimizer, _TAKEN):
        setattr(optimizer, _TAKEN, optimizer.register_state_dict_post_hook(_say_base))
    if hasattr(optimizer, _SCALES):
        setattr(optimizer, _SCALES, False)
    for group in optimizer.param_groups:
        group[BASE_KEY] = base_weight_decay(group)
        group["weight_decay"] = 0.0


def hold_weight_decay(optimizer: torch.optim.Optimizer) -> None:
    """Before a step: what a load has put back into the groups is taken over again.

    Raises:
        ValueError: somebody has set a group's weight_decay to another value.
    """
    for group in optimizer.param_groups:
        given = group.get("weight_decay", 0.0)
        if given and given != group.setdefault(BASE_KEY, given):
            raise ValueError(
                f"a param group's weight_decay was set to {given}, and AlphaDecay had taken it "
                f"over at {group[BASE_KEY]}: decay has one "
                "owner. Leave the group's alone, or make a new AlphaDecay after a change"
            )
        group["weight_decay"] = 0.0


def _say_base(_optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """state_dict() says the base decay, not 0: torch's DCP drops keys that the loading optimizer
    does not have yet, such as ours.
    """
    for group in state["param_groups"]:
        group["weight_decay"] = base_weight_decay(group)


def forget_dry_run(optimizer: torch.optim.Optimizer) -> bool:
    """Clears Adam's state where all it has seen is one step on zero gradients. True where it did.

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


def allow_in_zero(optimizer_class: type) -> None:
    """Adds a class to the optimizers ZeRO takes without `zero_allow_untested_optimizer`; a no-op
    while DeepSpeed is not loaded.

    DeepSpeed compares exact types, so a subclass of a supported optimizer has to be listed by
    itself.
    """
    zero_utils = sys.modules.get(_ZERO_UTILS)
    supported = getattr(zero_utils, "ZERO_SUPPORTED_OPTIMIZERS", None)
    if supported is not None and optimizer_class not in supported:
        supported.append(optimizer_class)


class _FragmentDecay:
    """Mixed into a torch optimizer: decays bound fragments before the base step."""

    param_groups: list[dict[str, Any]]
    decoupled: bool
    _fragments: Fragments | None = None
    finite: FiniteCheck | None = None
    skipped_steps = 0

    def bind_fragments(self, fragments: Fragments) -> None:
        """From here on decay comes from `fragments`, and the groups' own is 0."""
        self._fragments = fragments
        take_over_weight_decay(self)  # type: ignore[arg-type]

    def guard(self) -> FiniteCheck:
        """From here on a step whose gradients hold NaN or Inf changes nothing and is counted in
        `skipped_steps`.

        For loops in which nobody else checks: one process, DDP, FSDP2. DeepSpeed's stage 0 in
            float32 has it (`guard_stage0`), and its
        other stages check by themselves. All ranks skip the same steps; under FSDP2 the step is
        collective then.
        """
        self.finite = self.finite or FiniteCheck()
        return self.finite

    @property
    def overflow(self) -> bool:
        """Whether the last step was skipped: DeepSpeed's engine reads it."""
        return self.finite is not None and self.finite.failed

    @property
    def _global_grad_norm(self) -> Tensor | None:
        """Norm of the last step's gradients, before clipping, where the guard is on: DeepSpeed's
        engine reads it.
        """
        return None if self.finite is None else self.finite.norm

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step: per-module decay, then Adam. A closure is evaluated once, before the decay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.finite is not None and not self.finite.check(self.param_groups):
            self.skipped_steps += 1
            return loss
        update = _without_hooks(super().step)  # type: ignore[misc]
        if self._fragments is None:
            update()
        else:
            hold_weight_decay(self)  # type: ignore[arg-type]
            self._decay_and(update, self._fragments)
        return loss

    def __setstate__(self, state: dict[str, Any]) -> None:
        """torch's, for copies and for loads.

        A copy is bound to nothing: its groups decay by themselves again.
        """
        super().__setstate__(state)  # type: ignore[misc]
        for group in self.param_groups if self._fragments is None else []:
            group["weight_decay"] = base_weight_decay(group)
            group.pop(BASE_KEY, None)

    def _decay_and(self, update: Callable[[], Any], fragments: Fragments) -> None:
        """Decays what only fragments can say; `update` decays the rest as it goes, group by group."""
        groups = self.param_groups
        with torch.no_grad():
            fragments.prepare(groups)
            self.param_groups = fragments.by_decay(groups)
            try:
                fragments.apply(self.param_groups, self.decoupled)
                update()
            finally:
                self.param_groups = groups


def _without_hooks(step: Any) -> Callable[[], Any]:
    """A base class's step() without its hooks, which the subclass's own step() has run.

    torch wraps the step() of every class that has been instantiated, and each wrapper runs all
    hooks.
    """
    function = step.__func__
    return partial(
        function.__wrapped__ if getattr(function, "hooked", False) else function, step.__self__
    )


class AdamW(_FragmentDecay, torch.optim.AdamW):
    """torch's AdamW with a decay per module: w ← (1 − lr·λ_m)·w, then Adam (arXiv 1711.05101).

    Args:
        params: parameters or param groups, as for torch.optim.AdamW.
        lr: learning rate; read again at every step.
        betas: decays of the two moments.
        eps: added to the denominator.
        weight_decay: the base decay, eta; every module's own once AlphaDecay is bound.
        kwargs: further arguments of torch.optim.AdamW (foreach, fused, amsgrad, ...).
    """

    decoupled = True

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


class Adam(_FragmentDecay, torch.optim.Adam):
    """torch's Adam with an L2 penalty per module: g ← g + λ_m·w, then Adam (arXiv 1412.6980).

    The penalty is added to the gradients in place. Arguments as for AdamW.
    """

    decoupled = False

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
