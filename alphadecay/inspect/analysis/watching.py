"""Who wants to know how far an analysis is; by default nobody."""

from __future__ import annotations


class Watcher:
    """It is told of each weight that is done."""

    def begin(self, count: int, cost: float) -> None:
        """Begin with that many weights, which cost so much together."""

    def advance(self, cost: float) -> None:
        """Note that a weight is done."""
