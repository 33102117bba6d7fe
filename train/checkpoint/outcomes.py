"""Counts what became of a run's saves: one that failed is borne, too many in a row are not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from train.checkpoint.space import NotSaved
from train.cluster.distributed import World
from train.errors import UserError


class NotFinite(UserError):
    """The weights are not finite, and were not saved. Raised on every rank."""


class LastNotSaved(UserError):
    """The last checkpoint could not be written; the older ones are there. Raised on every rank."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is there.

    Args:
        step: optimizer steps done when it was taken.
        path: its folder.
        seconds: from its beginning to its commit, whether or not the training went on.
    """

    step: int
    path: Path
    seconds: float


def _ignore(saved: Saved) -> None:
    """Do nothing."""


class Outcomes:
    """The outcomes of a run's saves, alike on every rank.

    Args:
        max_failures: so many in a row are too many.
        folder: of the checkpoints.
        world: this rank; rank 0 tells.

    Attributes:
        failures: so far.
        on_saved: is told of every checkpoint that is there.
    """

    def __init__(self, max_failures: int, folder: Path, world: World) -> None:
        self.failures = 0
        self.on_saved: Callable[[Saved], None] = _ignore
        self._max_failures = max_failures
        self._folder = folder
        self._world = world
        self._in_a_row = 0

    def saved(self, saved: Saved) -> None:
        """Take in a success."""
        self._in_a_row = 0
        self.on_saved(saved)

    def failed(self, step: int, failure: NotSaved, last: bool = False, bears: bool = False) -> None:
        """Count and tell a failure.

        Args:
            last: no other save will follow.
            bears: it does not end the run, however many there were.

        Raises:
            LastNotSaved: it was the last. On every rank.
            UserError: it was one of too many in a row. On every rank.
        """
        self.failures += 1
        self._in_a_row += 1
        news = f"the checkpoint of step {step} was NOT saved: {failure}"
        if last or (self._in_a_row >= self._max_failures and not bears):
            reason = f"That is {self._in_a_row} in a row (checkpoint.max_failures)"
            if last:
                reason = "It was to be the run's last"
            raise (LastNotSaved if last else UserError)(
                f"{news}. {reason}; make room and start the run again: it goes on from the newest "
                f"in {self._folder}"
            )
        if self._world.is_main:
            print(
                f"warning: {news} ({self._in_a_row} in a row, {self.failures} in all); the run "
                "goes on",
                file=sys.stderr,
                flush=True,
            )
