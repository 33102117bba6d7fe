"""Adds up how much each module has been decayed, and how long its weights take to halve.

The sum is of lr · decay over the steps taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping


class CumulativeDecay:
    """Σ lr · λ by module name.

    Its state is plain numbers, so that a resumed run has the sums of an uninterrupted one, to the
    bit.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}

    def add(self, lr: float, weight_decays: Mapping[str, float]) -> None:
        """Add one step with the decays it ran on; a step that was skipped is not added."""
        for name, decay in weight_decays.items():
            self._sums[name] = self._sums.get(name, 0.0) + lr * decay

    @property
    def sums(self) -> dict[str, float]:
        """The sums by module name; empty before the first step."""
        return dict(self._sums)

    @property
    def mean(self) -> float:
        """The mean over modules; what a fair comparison of two methods holds equal."""
        return math.fsum(self._sums.values()) / len(self._sums) if self._sums else 0.0

    def load(self, sums: Mapping[str, float]) -> None:
        """Go on from the sums of the run resumed."""
        self._sums = {name: float(value) for name, value in sums.items()}


def half_lives(
    lr: float, weight_decays: Mapping[str, float], tokens_per_step: int
) -> dict[str, dict[str, float | None]]:
    """Return the steps and tokens in which decay alone would halve each module's weights.

    At this learning rate they are ln 2 / (lr · λ) steps.

    Returns:
        {"half_life_steps": {name: steps}, "half_life_tokens": {name: tokens}}; None where nothing
        decays.
    """
    steps = {
        name: math.log(2.0) / (lr * decay) if lr * decay > 0 else None
        for name, decay in weight_decays.items()
    }
    tokens = {
        name: None if value is None else value * tokens_per_step for name, value in steps.items()
    }
    return {"half_life_steps": steps, "half_life_tokens": tokens}
