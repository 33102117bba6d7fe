"""Ratios on their way from one refresh's to the next one's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Ramp:
    """Ratios that go in a straight line, over `length` steps, to where they are to be; 1 at first.

    It is a function of the step, so that a run that goes on has the ratios of one in one go.

    Args:
        length: steps; 0 is there at once.

    Attributes:
        target: where they lead, by name.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._start: dict[str, float] = {}
        self._first = 1
        self.target: dict[str, float] = {}

    def aim(self, target: Mapping[str, float], first: int) -> None:
        """Turn to other ratios, from those of the step before.

        Args:
            first: the step (1-based) that goes the first part of the way.
        """
        before = self.at(first - 1)
        self._start = {name: before.get(name, 1.0) for name in target}
        self._first = first
        self.target = dict(target)

    def at(self, step: int) -> dict[str, float]:
        """Return the ratios of a step (1-based)."""
        done = step - self._first + 1
        if done >= self._length:
            return dict(self.target)
        share = max(0, done) / self._length
        return {
            name: start + share * (self.target[name] - start) for name, start in self._start.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {"start": dict(self._start), "target": dict(self.target), "first": self._first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._start = {name: float(ratio) for name, ratio in state["start"].items()}
        self.target = {name: float(ratio) for name, ratio in state["target"].items()}
        self._first = int(state["first"])
