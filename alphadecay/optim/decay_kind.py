"""What an optimizer does with its weight decay: shrink weights, or add a penalty to gradients."""

from __future__ import annotations

import torch

# torch's optimizers whose decay is an L2 penalty
_COUPLED = ("ASGD", "Adadelta", "Adagrad", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD")
# bitsandbytes' update rules whose decay is one; its Adam decays as AdamW does, whatever the class
# is called
_COUPLED_BITSANDBYTES = ("adagrad", "lars", "momentum", "rmsprop")


def is_decoupled(optimizer: torch.optim.Optimizer) -> bool:
    """Return True where the optimizer shrinks the weights (AdamW), False where it adds an L2
    penalty to the gradients (Adam).

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
