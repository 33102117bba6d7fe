"""The learning rate as a function of the step alone, so that a resume needs no state.

Every schedule warms up linearly from 0 to lr, then goes its own way to lr · min_lr_ratio, which it
reaches at the last step.
"""

from __future__ import annotations

import math

from train.config import OptimConfig


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """Learning rate of step `step` (1-based) of `steps`.

    cosine: half a cosine from the end of the warm-up on. linear: a straight line. wsd (warm up,
    stay, decay): lr until the last wsd_decay_share of the steps, then a straight line; the line
    begins at the end of the warm-up where the two would overlap.
    """
    if step <= optim.warmup_steps:
        return optim.lr * step / optim.warmup_steps
    begin = optim.warmup_steps
    if optim.schedule == "wsd":
        begin = max(begin, steps - max(1, round(optim.wsd_decay_share * steps)))
    progress = min(1.0, max(0, step - begin) / max(1, steps - begin))
    left = (
        0.5 * (1.0 + math.cos(math.pi * progress)) if optim.schedule == "cosine" else 1.0 - progress
    )
    return optim.lr * (optim.min_lr_ratio + (1.0 - optim.min_lr_ratio) * left)
