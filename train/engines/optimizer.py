"""Builds the recipe's optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from alphadecay import Adam, AdamW
from alphadecay.optim import SGD, SGDW
from train.config import TrainConfig
from train.config.decay import METHODS

_ADAM: dict[str, Any] = {"adamw": AdamW, "adam": Adam}
_SGD: dict[str, Any] = {"sgdw": SGDW, "sgd": SGD}


def build_optimizer(config: TrainConfig, parameters: Any) -> torch.optim.Optimizer:
    """Build the optimizer of the optim section; some methods decay nothing."""
    optim = config.optim
    decays = METHODS[config.decay.method].decays
    own: dict[str, Any] = {
        "betas": (optim.beta1, optim.beta2),
        "eps": optim.eps,
        "fused": optim.fused,
    }
    if optim.name in _SGD:
        own = {"momentum": optim.momentum}  # FSDP2's shards have no fused kernel of it
    optimizer: torch.optim.Optimizer = (_ADAM | _SGD)[optim.name](
        parameters,
        lr=optim.lr,
        weight_decay=optim.weight_decay if decays else 0.0,
        **own,
    )
    return optimizer


def set_momentum(optimizer: Any, momentum: float) -> None:
    """Set the share of the last first moment, Adam's beta1 or SGD's momentum, in every group."""
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


def make_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer the state it makes at its first step, to be filled from the files."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter].update(first_moments(parameter, group))


def first_moments(tensor: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state that an optimizer makes of a tensor at its first step.

    Args:
        tensor: what it updates.
        group: the param group.
    """
    if "momentum" in group:
        return {"momentum_buffer": torch.zeros_like(tensor)}
    device = tensor.device if group.get("fused") else torch.device("cpu")
    return {
        "step": torch.zeros((), dtype=torch.float32, device=device),
        "exp_avg": torch.zeros_like(tensor),
        "exp_avg_sq": torch.zeros_like(tensor),
    }
