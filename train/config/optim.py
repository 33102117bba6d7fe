"""The optimizer and its learning-rate schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from train.config.ranges import at_least, greater_than, within

DECOUPLED = ("adamw", "sgdw")  # those whose decay shrinks weights
ADAM = ("adamw", "adam")  # those whose momentum is beta1


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning-rate schedule.

    Args:
        name: adamw (decoupled decay) or adam (L2 added to the gradient); sgdw or sgd, with momentum
            and decoupled decay or L2 (arXiv 1711.05101).
        lr: peak learning rate.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: Adam's epsilon.
        momentum: of sgdw and sgd, which read no beta and no eps.
        weight_decay: the base decay, eta, unless decay.base is auto.
        fused: of adamw and adam: one kernel for the whole update, torch's, in place of a dozen; its
            figures differ in the last bits.
        grad_clip: largest global gradient norm; 0 clips nothing.
        ema: share of the old value in an exponential moving average of the weights at each step,
            such as 0.9999, which validations look at beside them; 0 keeps none.
        schedule: cosine; linear; wsd, which stays at lr and falls on a straight line at the end;
            one_cycle, which rises by half a cosine from lr / 25 and falls by another, while the
            momentum does the opposite (arXiv 1803.09820); or range, which rises exponentially all
            the way, for python -m train lr-range.
        warmup_steps: steps of linear warm-up from 0; of one_cycle, those of its rise, for which 30
            % of all are usual; range reads none.
        min_lr_ratio: learning rate at the last step, as a share of lr; of range, at the first.
        wsd_decay_share: share of all steps, the last ones, over which wsd falls.
        cycle_momentum: of one_cycle: momentum, of Adam beta1, where the learning rate is at its
            peak; it begins and ends at momentum or beta1.
    """

    name: Literal["adamw", "adam", "sgdw", "sgd"] = "adamw"
    lr: Annotated[float, greater_than(0)] = 1e-3
    beta1: Annotated[float, within(0, 1, high_open=True)] = 0.9
    beta2: Annotated[float, within(0, 1, high_open=True)] = 0.999
    eps: Annotated[float, greater_than(0)] = 1e-8
    momentum: Annotated[float, within(0, 1, low_open=True, high_open=True)] = 0.9
    weight_decay: Annotated[float, at_least(0)] = 0.1
    fused: bool = True
    grad_clip: Annotated[float, at_least(0)] = 1.0
    ema: Annotated[float, within(0, 1, high_open=True)] = 0.0
    schedule: Literal["cosine", "wsd", "linear", "one_cycle", "range"] = "cosine"
    warmup_steps: Annotated[int, at_least(0)] = 1000
    min_lr_ratio: Annotated[float, within(0, 1)] = 0.1
    wsd_decay_share: Annotated[float, within(0, 1, low_open=True)] = 0.2
    cycle_momentum: Annotated[float, within(0, 1, high_open=True)] = 0.85
