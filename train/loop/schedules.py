"""Computes the learning rate and the base decay from the step alone: a resume needs no state.

A schedule of the rate in `SCHEDULES` warms up linearly from 0 to lr, then goes its own way to
lr · min_lr_ratio, which it reaches at the last step; one in `WHOLE_SCHEDULES` goes its own way from
the first. A new schedule is a function with a line there, and its name in `OptimConfig.schedule`;
one of the decay has its line in `DECAY_SCHEDULES`, and its name in `DecayConfig.schedule`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from train.config import OptimConfig, TrainConfig
from train.config.decay import METHODS
from train.config.optim import ADAM

ONE_CYCLE_START = 1 / 25  # of lr, as in torch and fastai


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """Return the learning rate of step `step` (1-based) of `steps`."""
    if optim.schedule in WHOLE_SCHEDULES:
        return optim.lr * WHOLE_SCHEDULES[optim.schedule](optim, step, steps)
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


def one_cycle(optim: OptimConfig, step: int, steps: int) -> float:
    """Return the share of lr in one cycle (arXiv 1803.09820, as torch's OneCycleLR has it)."""
    floor = ONE_CYCLE_START if step <= optim.warmup_steps else optim.min_lr_ratio
    return floor + (1.0 - floor) * _height(optim, step, steps)


def exponential(optim: OptimConfig, step: int, steps: int) -> float:
    """Return the share of lr in a rise by one factor a step, from min_lr_ratio to 1."""
    return float(optim.min_lr_ratio ** (1.0 - _progress(step, 1, steps)))


WHOLE_SCHEDULES: dict[str, Callable[[OptimConfig, int, int], float]] = {
    "one_cycle": one_cycle,
    "range": exponential,
}


def momentum(optim: OptimConfig, step: int, steps: int) -> float:
    """Return the momentum of step `step` (1-based) of `steps`; of Adam it is beta1.

    It stays, but in one cycle it falls to cycle_momentum while the rate rises, and comes back.
    """
    rest = optim.beta1 if optim.name in ADAM else optim.momentum
    if optim.schedule != "one_cycle":
        return rest
    return rest + (optim.cycle_momentum - rest) * _height(optim, step, steps)


def _height(optim: OptimConfig, step: int, steps: int) -> float:
    """Return how far up the cycle a step is, in [0, 1]: the first and the last are at its foot."""
    if step <= optim.warmup_steps:
        up = _progress(step, 1, optim.warmup_steps) if optim.warmup_steps > 1 else 1.0
        return 0.5 * (1.0 - math.cos(math.pi * up))
    return 0.5 * (1.0 + math.cos(math.pi * _progress(step, optim.warmup_steps, steps)))


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
