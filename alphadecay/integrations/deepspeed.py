"""AlphaDecay's optimizers by name in a DeepSpeed configuration: "optimizer": {"type":
"AlphaDecayAdamW", "params": {...}}.
"""

from __future__ import annotations

from importlib import import_module

import torch

from alphadecay.optim import Adam, AdamW, allow_in_zero

NAMES: dict[str, type[torch.optim.Optimizer]] = {"AlphaDecayAdamW": AdamW, "AlphaDecayAdam": Adam}


def register() -> None:
    """Makes "AlphaDecayAdamW" and "AlphaDecayAdam" names that DeepSpeed and its ZeRO stages know.

    Call it before `deepspeed.initialize`; again does no harm. DeepSpeed looks a name it does not
    know up in torch.optim, so that is where the classes are put. The parameters are those of the
    classes: lr, betas, eps, weight_decay, ...
    """
    # allow_in_zero adds to its list where it is loaded
    import_module("deepspeed.runtime.zero.utils")
    for name, optimizer_class in NAMES.items():
        setattr(torch.optim, name, optimizer_class)
        allow_in_zero(optimizer_class)
