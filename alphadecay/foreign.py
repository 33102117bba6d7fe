"""Other people's optimizers: their weight decay is taken over by a hook that runs just before their
step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch

from alphadecay.fragments import Fragments
from alphadecay.optim import hold_weight_decay, take_over_weight_decay

# torch's optimizers whose decay is an L2 penalty
_COUPLED = ("ASGD", "Adadelta", "Adagrad", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD")
# bitsandbytes' update rules whose decay is one; its Adam decays as AdamW does, whatever the class
# is called
_COUPLED_BITSANDBYTES = ("adagrad", "lars", "momentum", "rmsprop")
_HANDLE = "_alphadecay_hook"


def hook(optimizer: torch.optim.Optimizer, fragments: Fragments) -> None:
    """From here on `fragments` are decayed just before each step of `optimizer`, and its groups'
    own decay is 0.

    A second call puts the new fragments in the place of the old.
    """
    decoupled = is_decoupled(optimizer)

    def decay(stepping: torch.optim.Optimizer) -> None:
        hold_weight_decay(stepping)
        with torch.no_grad():
            fragments.prepare(stepping.param_groups)
            fragments.apply(stepping.param_groups, decoupled)

    def before_step(stepping: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        if _inside_step(stepping):
            return None
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            decay(stepping)
            return None
        rest = {key: value for key, value in kwargs.items() if key != "closure"}
        return (stepping, _followed_by(closure, lambda: decay(stepping)), *args[2:]), rest

    take_over_weight_decay(optimizer)
    former = getattr(optimizer, _HANDLE, None)
    if former is not None:
        former.remove()
    setattr(optimizer, _HANDLE, optimizer.register_step_pre_hook(before_step))


def _followed_by(closure: Callable[[], Any], then: Callable[[], None]) -> Callable[[], Any]:
    """The closure, and what needs its gradients after its first call."""
    left = [then]

    def both() -> Any:
        loss = closure()
        while left:
            left.pop()()
        return loss

    return both


def is_decoupled(optimizer: torch.optim.Optimizer) -> bool:
    """True where the optimizer shrinks the weights (AdamW), False where it adds an L2 penalty to
    the gradients (Adam).

    Raises:
        ValueError: it does both.
    """
    if any(group.get("decoupled_weight_decay") for group in optimizer.param_groups):
        return True
    if hasattr(optimizer, "adam_w_mode"):  # DeepSpeed's and apex's Adams say it so
        if not optimizer.adam_w_mode and any(
            group.get("use_muon") for group in optimizer.param_groups
        ):
            raise ValueError(
                "DeepSpeed's Muon shrinks its matrices, and with adam_w_mode false its Adam adds a "
                "penalty to the gradients instead: "
                "AlphaDecay does one or the other; set adam_w_mode to true"
            )
        return bool(optimizer.adam_w_mode)
    for kind in type(optimizer).__mro__:
        if kind.__module__.startswith("bitsandbytes."):
            return getattr(optimizer, "optimizer_name", "") not in _COUPLED_BITSANDBYTES
        if kind.__module__.startswith("torch.optim.") and kind is not torch.optim.Optimizer:
            return kind.__name__ not in _COUPLED
    return type(optimizer).__name__ not in _COUPLED


def _inside_step(optimizer: torch.optim.Optimizer) -> bool:
    """True in a hook of a base class's step() that the optimizer's own step() has called.

    torch wraps the step() of every class by itself, so that a subclass calling its base runs all
    hooks twice.
    """
    # hooks are called by the wrapper: its frame, this function's caller's caller
    wrapper = sys._getframe(2)
    frame = wrapper.f_back
    while frame is not None:
        if frame.f_code is wrapper.f_code and frame.f_locals.get("self") is optimizer:
            return True
        frame = frame.f_back
    return False
