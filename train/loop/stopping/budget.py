"""Keeps run.max_hours: a run stops so that its checkpoint is written before the time is over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from train.loop.stopping.signals import launchers
from train.system.processes import process_start

SAFETY = 1.25  # a shared disk is not always as quick as it was
UNKNOWN_SAVE = 0.05  # share of the budget kept for a first checkpoint, until one has been timed


AT_MOST = 0.5  # share of the budget that is ever kept for what comes last
STARTED = "TRAIN_JOB_STARTED"  # launch/slurm's scripts say there when the job began


def job_start() -> float:
    """Return when this job began, in the seconds of time.time().

    A launcher that starts dead ranks again is older than they are, and the job of a scheduler
    older than its launcher. Counted from this process, the time after a restart would begin anew.
    """
    starts = [process_start(), *(process.create_time() for process in launchers())]
    with suppress(ValueError):  # not set
        starts.append(float(os.environ.get(STARTED, "")))
    return float(min(starts))


@dataclass
class Budget:
    """The time that a run may take.

    Args:
        hours: from `start` on; 0 has no end.
        start: seconds of time.time().
        now: the clock.
        longest: seconds that a step, refresh, evaluation and save may take, by name: the longest
            so far, forgotten by half each time that one took less. Checkpoints carry it on.
    """

    hours: float
    start: float = field(default_factory=job_start)
    now: Callable[[], float] = time.time
    longest: dict[str, float] = field(default_factory=dict)

    def spent(self) -> bool:
        """Return whether to stop now.

        At most one piece of work runs before this is asked again; a save must still fit after it.
        However long a save once took, half of the budget is there to work in.
        """
        if not self.hours:
            return False
        total = self.hours * 3600.0
        save = self.longest.get("save", UNKNOWN_SAVE * total)
        piece = max(self.longest.values(), default=0.0)
        kept = min(SAFETY * (piece + save), AT_MOST * total)
        return self.now() - self.start + kept >= total

    @contextmanager
    def timed(self, piece: str) -> Iterator[None]:
        """Time one piece of work."""
        began = self.now()
        yield
        self.note(piece, self.now() - began)

    def note(self, piece: str, seconds: float) -> None:
        """Take in how long a piece of work took."""
        before = self.longest.get(piece, 0.0)
        self.longest[piece] = max(seconds, (before + seconds) / 2)

    def ends(self) -> float | None:
        """Return when the time is over, in the seconds of time.time(); None without a limit."""
        return self.start + self.hours * 3600.0 if self.hours else None

    def state_dict(self) -> dict[str, float]:
        """Return the longest pieces of work so far, in seconds by name."""
        return self.longest

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take in what earlier starts of this run have seen."""
        for piece, seconds in state.items():
            self.longest[piece] = max(self.longest.get(piece, 0.0), float(seconds))
