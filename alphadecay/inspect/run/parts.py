"""The parts that the time of a step is told by."""

from __future__ import annotations

from collections.abc import Mapping

# Tokens per second are reckoned over these parts.
TRAINING = ("data", "forward_backward", "step", "refresh")
PARTS = (*TRAINING, "evaluation", "checkpoint", "compiling")


def training_seconds(seconds: Mapping[str, float]) -> float:
    """Sum the seconds of those parts in which the model learned."""
    return sum(seconds[name] for name in TRAINING)
