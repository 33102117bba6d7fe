"""Builds the recipe's optimizer."""

from __future__ import annotations

from typing import Any

import torch

from alphadecay import Adam, AdamW
from train.config import TrainConfig


def build_optimizer(config: TrainConfig, parameters: Any) -> torch.optim.Optimizer:
    """Build the optimizer of the optim section; the method "none" decays nothing."""
    kind = AdamW if config.optim.name == "adamw" else Adam
    optim = config.optim
    return kind(
        parameters,
        lr=optim.lr,
        betas=(optim.beta1, optim.beta2),
        eps=optim.eps,
        weight_decay=0.0 if config.decay.method == "none" else optim.weight_decay,
        fused=optim.fused,
    )
