"""The one mechanism: a pair of step hooks that decays an optimizer's fragments.

Before a step the hook takes every group's own weight decay, decays each fragment by its ratio of it
and leaves 0 in the group; after the step the value is back. Whoever reads or sets it between steps
(a schedule, a checkpoint, a copy) finds what the user has set.
"""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Callable
from typing import Any

import torch

from alphadecay.optim.fragments import Fragments

_SCALES = "_step_supports_amp_scaling"  # read by torch.amp.GradScaler
_REGISTER = "register_step_pre_hook"
_LOG = logging.getLogger("alphadecay")
_LOADED_AFTER = (
    "AlphaDecay: the weights were written to after AlphaDecay measured them and before the first "
    "step: if you have loaded a checkpoint, load AlphaDecay's state too, or call decay.refresh()"
)


class StepHook:
    """Decays one optimizer's fragments in each of its steps, until `remove`.

    Under a GradScaler the optimizer's step() finds unscaled gradients from here on, which would be
    left to fused kernels otherwise: a step that it skips is not taken, and a penalty is not added
    to scaled gradients.

    Args:
        optimizer: the optimizer whose step() updates the weights.
        fragments: where the modules lie in its tensors.
        decoupled: True where it shrinks weights, False where it adds a penalty to gradients.

    Attributes:
        steps: steps that the optimizer has completed.
        decayed: steps that were decayed.
        blank: steps among them at a learning rate of 0 on gradients of 0, which torch's distributed
            checkpoint takes to have the optimizer make its state.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, fragments: Fragments, decoupled: bool
    ) -> None:
        self.fragments = fragments
        self.decoupled = decoupled
        self.steps = 0
        self.decayed = 0
        self.blank = 0
        self._held: list[tuple[dict[str, Any], float]] = []
        self._depth = 0
        self._version_measured: int | None = None  # of the tensors, before the first step
        self._version_ungraded: int | None = None  # of the tensors, where none has a gradient
        self._optimizer = weakref.ref(optimizer)  # it holds this hook
        self._scales = getattr(optimizer, _SCALES, None)
        if self._scales:
            setattr(optimizer, _SCALES, False)
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
            optimizer.register_state_dict_pre_hook(lambda _: self._release()),
        ]
        setattr(optimizer, _REGISTER, self._register_ahead)

    def remove(self) -> None:
        """Give the optimizer back as it was."""
        self._release()
        for handle in self._handles:
            handle.remove()
        optimizer = self._optimizer()
        if optimizer is not None:
            vars(optimizer).pop(_REGISTER, None)
        if optimizer is not None and self._scales:
            setattr(optimizer, _SCALES, self._scales)

    def note_measured(self, is_measured: bool) -> None:
        """Take that the weights were measured just now, to notice that others are loaded before the
        first step.
        """
        is_first = is_measured and not self.steps
        self._version_measured = self.fragments.version if is_first else None

    def weight_decay(self, group: dict[str, Any]) -> float:
        """Return a group's own weight decay, inside a step too."""
        taken = [value for each, value in self._held if each is group]
        return float(taken[0] if taken else group.get("weight_decay", 0.0))

    def _register_ahead(self, hook: Any) -> Any:
        """Register a user's hook ahead of this one: it may set the decay, or clip gradients."""
        optimizer: Any = self._optimizer()
        handle = type(optimizer).register_step_pre_hook(optimizer, hook)
        optimizer._optimizer_step_pre_hooks.move_to_end(self._handles[0].id)
        return handle

    def _before(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        self._depth += 1
        if 1 < self._depth <= _levels(optimizer):  # a subclass's step() calls its base's
            return None
        self._release()  # a step that failed half-way has left it
        self._depth = 1
        _refuse_capture(optimizer)
        if self._version_measured not in (None, self.fragments.version):
            _LOG.warning(_LOADED_AFTER)
        self._version_measured = None
        for group in optimizer.param_groups:
            self._held.append((group, group.get("weight_decay", 0.0)))
            if "weight_decay" in group:
                group["weight_decay"] = 0.0
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            self._decay()
            return None
        rest = {key: value for key, value in kwargs.items() if key != "closure"}
        return (optimizer, self._followed_by_decay(closure), *args[2:]), rest

    def _after(self, optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        self._depth = max(0, self._depth - 1)
        if not self._depth:
            self.fragments.finish()
            self._release()
            if self._version_ungraded not in (None, self.fragments.version):
                raise RuntimeError(
                    f"{type(optimizer).__name__} has stepped weights none of which has a .grad: "
                    "what decays is told by it, so nothing was decayed. AlphaDecay needs an "
                    "optimizer that takes its gradients from .grad, set before step()"
                )
            self.steps += 1
            self.blank += _is_blank(optimizer.param_groups)

    def _followed_by_decay(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """The closure, and the decay, which needs its gradients, after its first call."""
        due = [True]

        def both() -> Any:
            try:
                loss = closure()
            except BaseException:
                self._release()
                raise
            if due:
                due.clear()
                self._decay()
            return loss

        return both

    def _decay(self) -> None:
        try:
            self.fragments.apply([(g, float(decay)) for g, decay in self._held], self.decoupled)
            optimizer = self._optimizer()
            if optimizer is not None:
                self.fragments.begin(optimizer)
        except BaseException:
            self._release()
            raise
        has_gradients = any(p.grad is not None for g, _ in self._held for p in g["params"])
        self._version_ungraded = None if has_gradients else self.fragments.version
        self.decayed += 1

    def _release(self) -> None:
        """Puts every group's own decay back, where nobody has set another meanwhile."""
        self.fragments.drop()
        for group, value in self._held:
            if value and not group["weight_decay"]:
                group["weight_decay"] = value
        self._held.clear()
        self._depth = 0


def _is_blank(groups: list[dict[str, Any]]) -> bool:
    """Return True where a step had no learning rate and no gradient.

    A warm-up from 0 has gradients. They are read at a learning rate of 0 alone: that waits for a
    device.
    """
    for group in groups:
        lr = group.get("lr")
        if isinstance(lr, torch.Tensor) and lr.device.type != "cpu":  # reading it would wait
            return False
        if lr is None or float(lr):
            return False
    gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
    shards = [getattr(gradient, "_local_tensor", gradient) for gradient in gradients]
    return all(shard.layout is torch.strided and not shard.any() for shard in shards)


def _levels(optimizer: torch.optim.Optimizer) -> int:
    """Return how many step() functions of the class and its bases run hooks.

    torch wraps the step() of every class by itself, so that a subclass calling its base runs all
    hooks once more inside its own step.
    """
    steps: list[Any] = [vars(kind).get("step") for kind in type(optimizer).__mro__]
    return len({inspect.unwrap(step) for step in steps if getattr(step, "hooked", False)})


def _refuse_capture(optimizer: torch.optim.Optimizer) -> None:
    """A captured step would repeat the decays of the moment of its capture for ever."""
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"AlphaDecay cannot be captured in a CUDA graph with {type(optimizer).__name__}: "
            "its decays change between replays; capture forward and backward only"
        )
