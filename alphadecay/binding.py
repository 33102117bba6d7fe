"""Ties modules to the tensors an optimizer updates, and takes its weight decay over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from alphadecay.finite import guard_stage0
from alphadecay.foreign import hook
from alphadecay.fragments import Fragments, base_weight_decay
from alphadecay.modules import WeightModule
from alphadecay.optim import Adam, AdamW, forget_dry_run
from alphadecay.spans import engine_spans, plain_spans
from alphadecay.transport.detect import Target


def bare_optimizer(target: Target, optimizer: Any = None) -> torch.optim.Optimizer:
    """The optimizer whose step() updates the target's weights, if its decay can be taken over.

    Args:
        target: what `detect` found; an engine brings its own optimizer.
        optimizer: what the user gave beside it.

    Raises:
        ValueError: there is none, it is not the engine's own, not torch's kind, or it decays
            nothing.
    """
    if target.engine is not None:
        own = target.optimizer
        if (
            optimizer is not None
            and optimizer is not own
            and optimizer is not target.engine.optimizer
        ):
            raise ValueError(
                f"the {type(optimizer).__name__} given is not the optimizer of the DeepSpeed "
                "engine, which has its own "
                f"{type(own).__name__}: leave the second argument out, AlphaDecay(engine, "
                "interval=...)"
            )
        optimizer = own
    if optimizer is None:
        raise ValueError(
            "AlphaDecay(model, optimizer): a plain model needs its optimizer as the second argument"
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(f"AlphaDecay takes a torch optimizer, got {type(optimizer).__name__}")
    if not any(base_weight_decay(group) for group in optimizer.param_groups):
        raise ValueError(
            "the optimizer's weight_decay is 0: AlphaDecay multiplies it, so give it the run's "
            "base decay, e.g. 0.1"
        )
    return optimizer


def bind(
    engine: Any,
    optimizer: torch.optim.Optimizer,
    modules: Sequence[WeightModule],
    exempt: Iterable[torch.nn.Parameter],
) -> Fragments:
    """Finds every module in the optimizer's tensors; from here on its decay is what the fragments
    say: each base decay, at first.

    Args:
        engine: the DeepSpeed engine, or None.
        exempt: parameters without decay.

    Raises:
        ValueError: the optimizer does not hold all modules, or its wrapper is unknown.
    """
    spans = engine_spans(engine, optimizer) if engine is not None else plain_spans(optimizer)
    fragments = Fragments(modules, spans, exempt)
    unowned = sorted({module.name for module in modules} - set(fragments.base))
    if unowned:
        others = f" and {len(unowned) - 1} more" if len(unowned) > 1 else ""
        raise ValueError(
            f"the optimizer does not hold {unowned[0]}{others}; pass all of the model's parameters "
            "to it"
        )
    fragments.set_weight_decays(fragments.base)
    if engine is not None:
        forget_dry_run(optimizer)
    if isinstance(optimizer, Adam | AdamW):
        optimizer.bind_fragments(fragments)
    else:
        hook(optimizer, fragments)
    if engine is not None:
        guard_stage0(engine, optimizer)
    return fragments
