"""The optimizer and its learning-rate schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning-rate schedule.

    Args:
        name: adamw (decoupled decay) or adam (L2 added to the gradient).
        lr: peak learning rate.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: Adam's epsilon.
        weight_decay: the base decay, eta.
        fused: one kernel for the whole update, torch's, in place of a dozen; its figures differ in
            the last bits.
        grad_clip: largest global gradient norm; 0 clips nothing.
        schedule: cosine; linear; or wsd, which stays at lr and falls on a straight line at the end.
        warmup_steps: steps of linear warm-up from 0.
        min_lr_ratio: learning rate at the last step, as a share of lr.
        wsd_decay_share: share of all steps, the last ones, over which wsd falls, in (0, 1].
    """

    name: Literal["adamw", "adam"] = "adamw"
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.1
    fused: bool = True
    grad_clip: float = 1.0
    schedule: Literal["cosine", "wsd", "linear"] = "cosine"
    warmup_steps: int = 1000
    min_lr_ratio: float = 0.1
    wsd_decay_share: float = 0.2
