"""Computes the learning rate and the base decay from the step alone: a resume needs no state.

Every schedule of the rate warms up linearly from 0 to lr, then goes its own way to
lr · min_lr_ratio, which it reaches at the last step. A new schedule is a function with a line in
`SCHEDULES`, and its name in `OptimConfig.schedule`; one of the decay has its line in
`DECAY_SCHEDULES`, and its name in `DecayConfig.schedule`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from train.config import OptimConfig, TrainConfig
from train.config.decay import METHODS


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


def base_decay(config: TrainConfig, step: int) -> float:
    """Return the base decay of step `step` (1-based), of which each module has its multiple."""
    if not METHODS[config.decay.method].decays:
        return 0.0
    return config.optim.weight_decay * DECAY_SCHEDULES[config.decay.schedule](config, step)


def constant_decay(config: TrainConfig, step: int) -> float:
    """Return 1: the base decay stays."""
    return 1.0


def cosine_decay(config: TrainConfig, step: int) -> float:
    """Return what is left of half a cosine over the whole run, which ends at 0."""
    return 0.5 * (1.0 + math.cos(math.pi * _progress(step, 0, config.run.steps)))


def decay_tied_to_rate(config: TrainConfig, step: int) -> float:
    """Return γ_t / γ_max, the learning rate over its peak (AdamC, arXiv 2506.02285).

    A weight that a norm follows settles where its gradient is √(2λ/γ) times as large as itself. A
    falling γ alone lets that ratio grow until the end of the run; λ in proportion keeps it.
    """
    return learning_rate(config.optim, step, config.run.steps) / config.optim.lr


DECAY_SCHEDULES: dict[str, Callable[[TrainConfig, int], float]] = {
    "constant": constant_decay,
    "cosine": cosine_decay,
    "lr": decay_tied_to_rate,
}


def _progress(step: int, begin: int, steps: int) -> float:
    return min(1.0, max(0, step - begin) / max(1, steps - begin))
