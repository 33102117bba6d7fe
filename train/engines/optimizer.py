"""Builds the recipe's optimizer."""

from __future__ import annotations

from typing import Any

import torch

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
