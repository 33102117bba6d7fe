"""Gives a rank its share of each batch, and waits where rows of it are still to be prepared.

With data.start_early a process beside rank 0 prepares while all ranks train. What is there by then
only rank 0 finds out, and tells the others, so that all of them wait alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from train.cluster.distributed import World
from train.config import TrainConfig
from train.data.loading.dataset import training_rows
from train.data.loading.partial import PartialCorpus
from train.data.loading.read_ahead import MicroBatches, ReadAhead
from train.data.loading.sampler import Batches
from train.data.preparing.beside import PreparationBeside
from train.errors import UserError
from train.telemetry.telemetry import Telemetry

T = TypeVar("T")
_PAUSE = 0.5  # seconds between two looks


class Supply:
    """The batches of a run as one rank takes them; a context manager.

    Args:
        config: of the run.
        world: this rank.
        batches: of all ranks; they may still grow.
        telemetry: takes lines, and the time that is waited.
        beside: rank 0's preparation; None where all is prepared, and on other ranks.
    """

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        batches: Batches,
        telemetry: Telemetry,
        beside: PreparationBeside | None = None,
    ) -> None:
        self._config = config
        self._world = world
        self._batches = batches
        self._beside = beside
        self._telemetry = telemetry
        self._told = False
        self._failure = ""
        run = config.run
        self._reader = ReadAhead(
            lambda k: batches.batch(k, world.rank, world.size, run.micro_rows),
            config.data.read_ahead,
            run.steps,
            world.device,
            batches.holds,
        )

    def __enter__(self) -> Supply:
        self._reader.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()
        if self._beside is not None and self._beside.end():
            self._telemetry.message(
                "the preparation stops where it is; the next run, or python -m train prepare, goes "
                "on from there"
            )

    def batch(self, k: int) -> MicroBatches:
        """Return batch k, which is there."""
        self._tell_failure()
        return self._reader.batch(k)

    def tokens(self, k: int) -> int:
        """Return the tokens of batch k over all ranks, fill not counted."""
        return self._batches.tokens(k)

    def wait(self, k: int, ask: Callable[[], str]) -> str:
        """Wait until all rows of batch k are prepared. Collective.

        Args:
            ask: tells on every rank alike why to stop; empty where nothing asks for it.

        Returns:
            Why to stop instead, which may be that they will not come; empty when they are there.
        """
        told = False
        while not self._batches.holds(k):
            with self._telemetry.clock.part("data"):  # anew each time: the loop still moves
                part, reason = self._look_together(k, ask)
                if reason:
                    return reason
                if self._batches.holds(k):
                    break
                if not told:
                    self._telemetry.message(f"step {k + 1} waits for its rows; {_there(part)}")
                told = True
                time.sleep(_PAUSE)
        return ""

    def check(self) -> None:
        """Check, where a run has stopped, that it was not for rows that will not come.

        Raises:
            UserError: it was. On every rank.
        """
        if self._failure:
            raise UserError(self._failure)

    def _look_together(self, k: int, ask: Callable[[], str]) -> tuple[PartialCorpus | None, str]:
        """Take in what is prepared by now; return it, and why not to wait for more. Collective."""
        part, failure = self._world.run_on_main(self._look)
        self._grow(part)
        reason = ask()
        if not reason and failure and not self._batches.holds(k):
            self._failure = (
                f"step {k + 1} needs rows that are not prepared, and no more are: {failure}"
            )
            reason = "the preparation of the data has failed"
        return part, reason

    def _look(self) -> tuple[PartialCorpus | None, str]:
        assert self._beside is not None
        failure = self._beside.failure()  # first: what was written before it is looked at after
        return self._beside.look(), failure

    def _grow(self, part: PartialCorpus | None) -> None:
        if part is not None:
            rows = on_all(self._world, lambda: training_rows(part, self._config.data))
            self._batches.grow(rows, part.complete)

    def _tell_failure(self) -> None:
        """Say at once, on rank 0, that the preparation has failed."""
        if self._beside is None or self._told:
            return
        failure = self._beside.failure()
        if failure:
            self._told = True
            self._telemetry.message(
                f"the preparation has failed: {failure.rstrip('.')}. The run goes on with what is "
                "prepared, and ends with a checkpoint where it needs more"
            )


def on_all(world: World, action: Callable[[], T]) -> T:
    """Run `action` on every rank, and return this rank's result. Collective.

    Raises:
        UserError: it was raised on any rank; on every one.
    """
    failure = ""
    results: list[T] = []
    try:
        results.append(action())
    except UserError as error:
        failure = f"{error}"
    failures = [text for text in world.gather(failure) if text]
    if failures:
        raise UserError(failures[0])
    return results[0]


def _there(part: PartialCorpus | None) -> str:
    if part is None:
        return "none are prepared yet"
    counts = part.meta.train
    return f"{counts.documents:,} documents, {counts.tokens:,} tokens are prepared"
