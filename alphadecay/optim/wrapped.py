"""Opens what other libraries wrap around an optimizer, down to the one whose step() is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

# class name of a wrapper -> where it keeps what it wraps
_WRAPPERS = {
    "AcceleratedOptimizer": "optimizer",
    "_FabricOptimizer": "_optimizer",
    "LightningOptimizer": "_optimizer",
}
# where one that steps several keeps them, in torchtitan and in what users write for a Trainer
_SEVERAL = "optimizers"
# where a wrapper that is not known here would keep one
_INSIDE = ("optimizer", "_optimizer", "base_optimizer", "inner_optimizer")


def unwrapped(optimizer: Any) -> Any:
    """Return what a known wrapper holds, be it an optimizer, an engine's or a list of them."""
    for kind in type(optimizer).__mro__:
        if kind.__name__ in _WRAPPERS:
            return unwrapped(getattr(optimizer, _WRAPPERS[kind.__name__]))
    several = getattr(optimizer, _SEVERAL, None)
    if isinstance(several, Sequence) and several:
        return unwrapped(several)
    if isinstance(optimizer, Sequence) and len(optimizer) == 1:
        return unwrapped(optimizer[0])
    return optimizer


def opened(optimizer: Any) -> list[torch.optim.Optimizer]:
    """Return the optimizers inside a wrapper, a container or a sequence of them, in order.

    Raises:
        ValueError: something that is no torch optimizer, or hides one in a way not known here.
    """
    optimizer = unwrapped(optimizer)
    if isinstance(optimizer, Sequence):
        return [each for one in optimizer for each in opened(one)]
    name = type(optimizer).__name__
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(f"AlphaDecay takes a torch optimizer, got {name}")
    hidden = [
        attribute
        for attribute in _INSIDE
        if isinstance(vars(optimizer).get(attribute), torch.optim.Optimizer)
    ]
    if hidden:
        raise ValueError(
            f"{name} wraps another optimizer and is not known here; pass the one whose step() "
            f"updates the weights: AlphaDecay(model, optimizer.{hidden[0]})"
        )
    return [optimizer]


def bare_optimizers(engine: Any, optimizer: Any) -> list[torch.optim.Optimizer]:
    """Return the optimizers whose step() updates the weights.

    Raises:
        ValueError: there is none, it is not the engine's own, or not torch's kind.
    """
    if engine is not None:
        own = getattr(engine, "basic_optimizer", None) or engine.optimizer
        given = own if optimizer is None else unwrapped(optimizer)
        if given is not own and given is not engine.optimizer:
            raise ValueError(
                f"the {type(given).__name__} given is not the optimizer of the DeepSpeed engine, "
                f"which has its own {type(own).__name__}: leave the second argument out, "
                "AlphaDecay(engine, interval=...)"
            )
        optimizer = own
    if optimizer is None:
        raise ValueError(
            "AlphaDecay(model, optimizer): a plain model needs its optimizer as the second argument"
        )
    return opened(optimizer)


def refuse_no_decay(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Refuse optimizers that decay nothing, where their decay is what is shared out.

    Raises:
        ValueError: they do.
    """
    if not any(group.get("weight_decay") for each in optimizers for group in each.param_groups):
        raise ValueError(
            "the optimizer's weight_decay is 0: AlphaDecay multiplies it, so give it the run's "
            "base decay, e.g. 0.1; where a schedule begins at 0, make AlphaDecay while the groups "
            "hold its highest value, then let the schedule set them"
        )
