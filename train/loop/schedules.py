"""Computes the learning rate from the step alone, so that a resume needs no state.

Every schedule warms up linearly from 0 to lr, then goes its own way to lr · min_lr_ratio, which it
reaches at the last step. A new schedule is a function with a line in `SCHEDULES`, and its name in
`OptimConfig.schedule`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from train.config import OptimConfig


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """Return the learning rate of step `step` (1-based) of `steps`."""
    if step <= optim.warmup_steps:
        return optim.lr * step / optim.warmup_steps
    left = SCHEDULES[optim.schedule](optim, step, steps)
    return optim.lr * (optim.min_lr_ratio + (1.0 - optim.min_lr_ratio) * left)


def cosine(optim: OptimConfig, step: int, steps: int) -> float:
    """Return what is left of half a cosine that begins at the end of the warm-up, in [0, 1]."""
    progress = _progress(step, optim.warmup_steps, steps)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def linear(optim: OptimConfig, step: int, steps: int) -> float:
    """Return what is left of a straight line that begins at the end of the warm-up, in [0, 1]."""
    return 1.0 - _progress(step, optim.warmup_steps, steps)


def wsd(optim: OptimConfig, step: int, steps: int) -> float:
    """Return what is left where the rate stays until the last wsd_decay_share of the steps.

    Then it falls in a straight line (warm up, stay, decay). The line begins at the end of the
    warm-up where the two would overlap.
    """
    falling = max(1, round(optim.wsd_decay_share * steps))
    return 1.0 - _progress(step, max(optim.warmup_steps, steps - falling), steps)


SCHEDULES: dict[str, Callable[[OptimConfig, int, int], float]] = {
    "cosine": cosine,
    "linear": linear,
    "wsd": wsd,
}


def _progress(step: int, begin: int, steps: int) -> float:
    return min(1.0, max(0, step - begin) / max(1, steps - begin))
