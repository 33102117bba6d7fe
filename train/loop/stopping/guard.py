"""Notices steps that must change nothing and losses that look wrong, alike on every rank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

MEMORY = 0.98  # of the running mean: the last 50 steps or so
EXPERIENCE = 20  # steps seen before a loss can be called a spike


def poison_nonfinite_loss(loss: Tensor) -> Tensor:
    """Return the loss, with gradients that are all NaN where it is not finite.

    Summed over the ranks they are NaN everywhere, so that every rank skips the step without asking
    another. An infinite loss can have finite gradients. Waits for no device.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, math.nan).to(loss.dtype)


@dataclass
class SkippedSteps:
    """Counts steps that were skipped because a loss or gradient was not finite.

    Args:
        limit: so many in a row are too many; 0: any number is borne.
    """

    limit: int
    total: int = 0
    in_a_row: int = 0

    def note(self, skipped: bool) -> bool:
        """Count one step, and return whether the limit is reached."""
        self.total += skipped
        self.in_a_row = self.in_a_row + 1 if skipped else 0
        return bool(self.limit) and self.in_a_row >= self.limit

    def state_dict(self) -> int:
        """Return the number of skipped steps; a streak does not outlive a restart."""
        return self.total

    def load_state_dict(self, state: int) -> None:
        """Go on counting from `state`."""
        self.total = int(state)


@dataclass
class LossSpikeDetector:
    """Notices a loss above its running mean by more than `threshold` standard deviations.

    Mean and variance forget exponentially (West 1979). Spikes are clipped to the threshold before
    they enter the statistics, so that one outlier does not hide the next, and a lasting rise is
    accepted in the end.
    """

    threshold: float
    mean: float = 0.0
    variance: float = 0.0
    seen: int = 0

    def note(self, loss: float) -> float:
        """Take one loss in, and return its distance above the mean where it is a spike, else 0.

        The distance is in standard deviations.
        """
        if not self.threshold or not math.isfinite(loss):
            return 0.0
        self.seen += 1
        if self.seen == 1:
            self.mean = loss
            return 0.0
        deviation = math.sqrt(self.variance)
        distance = (loss - self.mean) / deviation if deviation else 0.0
        spike = self.seen > EXPERIENCE and distance > self.threshold
        step = self.threshold * deviation if spike else loss - self.mean
        weight = max(1 - MEMORY, 1 / self.seen)  # a plain mean until there is enough to forget
        self.mean += weight * step
        self.variance = (1 - weight) * (self.variance + weight * step * step)
        return distance if spike else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {key: value for key, value in asdict(self).items() if key != "threshold"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.mean = float(state["mean"])
        self.variance = float(state["variance"])
        self.seen = int(state["seen"])
