"""Notices that a rank stands still, and writes down where before torch ends its process.

torch's own watchdog ends a rank by an abort or an exception once a collective has waited for
`deepspeed.timeout_minutes`; nothing can be written then. So a thread of each rank looks whether
the loop still moves: the step clock notes when a part of a step was last entered or left, one look
at the time each. A collective that waits cannot have begun before the last move, so a limit that is
reckoned from there, less a margin, comes before torch's. The rank that the others wait for stands
still as long as they do, and writes as well.

A rank that was stopped (SIGSTOP), that has died, or in which other code keeps Python's lock, writes
nothing; that is what `python -m train hang` knows it by. Where the loop moves on after all, what
was written is removed again.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from train.cluster.distributed import World
from train.config.run_folder import HANG
from train.loop.hanging import evidence
from train.loop.trainer import Trainer
from train.system.environment import send_flight_records
from train.system.files import write_atomically

MARGIN = 30.0  # seconds before a collective's limit, at most a quarter of it
_LOOKS = 5  # within the margin


class HangWatch:
    """The watch over one rank's loop, a context.

    Args:
        folder: takes this rank's file.
        world: this rank.
        limit: seconds that a collective may take.
        moved: says when the loop last moved, in the seconds of time.monotonic().
        place: says where it is: step, and part of the step.
    """

    def __init__(
        self,
        folder: Path,
        world: World,
        limit: float,
        moved: Callable[[], float],
        place: Callable[[], dict[str, Any]],
    ) -> None:
        self._path = folder / f"rank-{world.rank}.json"
        self._world = world
        self._limit = limit
        self._moved = moved
        self._place = place
        self._margin = min(MARGIN, limit / 4)
        self._patience = limit - self._margin
        self._pause = self._margin / _LOOKS
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hang watch", daemon=True)
        self._written = 0.0  # when this was last done, in the same seconds; 0 where it is not there

    def __enter__(self) -> HangWatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(self._margin)  # a device that does not answer may hold it for ever
        if error is None or self._moved() > self._written > 0:
            self._forget()
        elif not self._written and self._still() >= self._patience:
            # gloo raises at the limit; on a busy machine the thread may come too late.
            self._write(evidence.stack_of(trace))

    def _watch(self) -> None:
        while not self._over.wait(self._pause):
            if self._moved() > self._written > 0:
                self._forget()
            # Again after a margin: a collective may have begun long after the last move.
            due = time.monotonic() >= self._written + self._margin
            if due and self._still() >= self._patience:
                self._write(evidence.stacks())

    def _still(self) -> float:
        """Return for how many seconds the loop has not moved."""
        return time.monotonic() - self._moved()

    def _write(self, threads: list[dict[str, Any]]) -> None:
        self._written = time.monotonic()
        told = {
            **evidence.facts_of(self._world),
            **self._place(),
            "still_seconds": self._still(),
            "limit_seconds": self._limit,
            "threads": threads,
            "groups": [],
        }
        with suppress(OSError):  # the disk is full or gone: nothing is left to try
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(told, indent=1) + "\n")
            # Second, for with a device that does not answer this may not come back.
            told["groups"] = evidence.collectives()
            write_atomically(self._path, json.dumps(told, indent=1) + "\n")

    def _forget(self) -> None:
        """Remove what was written, if anything was: the loop goes on."""
        if not self._written:
            return
        self._written = 0.0
        with suppress(OSError):
            self._path.unlink()
            self._path.parent.rmdir()  # where it was the last
            self._path.parent.parent.rmdir()


@contextmanager
def watched(trainer: Trainer) -> Iterator[None]:
    """Watch over the loop of a run of several ranks. Collective to enter."""
    world = trainer.world
    if world.size == 1:
        yield
        return
    start = world.run_on_main(lambda: time.strftime("%Y%m%d-%H%M%S"))
    folder = trainer.folder / HANG / start
    send_flight_records(folder / "flight-")
    clock = trainer.telemetry.clock

    def place() -> dict[str, Any]:
        return {"step": trainer.step + 1, "part": clock.at}

    limit = trainer.config.deepspeed.timeout_minutes * 60.0
    with HangWatch(folder, world, limit, lambda: clock.moved, place):
        yield
