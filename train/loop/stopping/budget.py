"""Keeps run.max_hours: a run stops so that its checkpoint is written before the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

SAFETY = 1.25  # a shared disk is not always as quick as it was
UNKNOWN_SAVE = 0.05  # share of the budget kept for a first checkpoint, until one has been timed


def process_start() -> float:
    """Return when this process was started, in the seconds of time.time(): imports count too."""
    import psutil

    return float(psutil.Process().create_time())


@dataclass
class Budget:
    """The time that a run may take.

    Args:
        hours: from `start` on; 0 has no end.
        start: seconds of time.time().
        now: the clock.
        longest: seconds of the longest step, refresh, evaluation and save so far, by name;
            checkpoints carry it on.
    """

    hours: float
    start: float = field(default_factory=process_start)
    now: Callable[[], float] = time.time
    longest: dict[str, float] = field(default_factory=dict)

    def spent(self) -> bool:
        """Return whether to stop now.

        At most one piece of work runs before this is asked again; a save must still fit after it.
        """
        if not self.hours:
            return False
        total = self.hours * 3600.0
        save = self.longest.get("save", UNKNOWN_SAVE * total)
        piece = max(self.longest.values(), default=0.0)
        return self.now() - self.start + SAFETY * (piece + save) >= total

    @contextmanager
    def timed(self, piece: str) -> Iterator[None]:
        """Time one piece of work."""
        began = self.now()
        yield
        self.longest[piece] = max(self.longest.get(piece, 0.0), self.now() - began)

    def state_dict(self) -> dict[str, float]:
        """Return the longest pieces of work so far, in seconds by name."""
        return self.longest

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take in what earlier starts of this run have seen."""
        for piece, seconds in state.items():
            self.longest[piece] = max(self.longest.get(piece, 0.0), float(seconds))
