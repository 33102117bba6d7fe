"""What is added to a model's own loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from train.config.ranges import at_least


@dataclass(frozen=True)
class LossConfig:
    """The loss of training; validation is of the plain one.

    Args:
        z_loss: coefficient of the mean of log² Z, Z being the sum of the exponentials of a
            position's logits, which keeps the logits from drifting (arXiv 2309.14322, which takes
            1e-4); the loss in training lines has it in. 0 adds nothing.
    """

    z_loss: Annotated[float, at_least(0)] = 0.0
