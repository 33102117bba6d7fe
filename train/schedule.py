"""The learning rate as a function of the step alone, so that a resume needs no state."""

from __future__ import annotations

import math

from train.config import OptimConfig


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """Learning rate of step `step` (1-based): linear warm-up from 0, then a cosine from lr to lr · min_lr_ratio at the last step."""
    if step <= optim.warmup_steps:
        return optim.lr * step / optim.warmup_steps
    progress = (step - optim.warmup_steps) / max(1, steps - optim.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return optim.lr * (optim.min_lr_ratio + (1.0 - optim.min_lr_ratio) * cosine)
