"""Gives a rank its share of batches of text, and waits where rows are still to be prepared.

With data.start_early a process beside rank 0 prepares while all ranks train. What is there by then
only rank 0 finds out, and tells the others, so that all of them wait alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from train.cluster.distributed import World
from train.config import TrainConfig
from train.data.loading.dataset import training_rows
from train.data.loading.micro_batch import MicroBatch
from train.data.loading.partial import PartialCorpus
from train.data.loading.sampler import Batches
from train.data.preparing.beside import PreparationBeside
from train.errors import UserError
from train.tasks.supply import Supply
from train.telemetry.telemetry import Telemetry

_PAUSE = 0.5  # seconds between two looks


class TextSupply(Supply):
    """The batches of a run, which may still grow.

    Args:
        config: of the run.
        world: this rank.
        batches: of all ranks.
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
        super().__init__(config, world, batches, batches.holds)
        self._config = config
        self._world = world
        self._batches = batches
        self._beside = beside
        self._telemetry = telemetry
        self._told = False
        self._failure = ""

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._beside is not None and self._beside.end():
            self._telemetry.message(
                "the preparation stops where it is; the next run, or python -m train prepare, goes "
                "on from there"
            )

    def batch(self, k: int) -> list[MicroBatch]:
        """Return this rank's micro batches of batch k, which is there."""
        self._tell_failure()
        return super().batch(k)

    def wait(self, k: int, ask: Callable[[], str]) -> str:
        """Wait until all rows of batch k are prepared. Collective."""
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
        """Check, where a run has stopped, that it was not for rows that will not come."""
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
            rows = self._world.run_on_all(lambda: training_rows(part, self._config.data))
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


def _there(part: PartialCorpus | None) -> str:
    if part is None:
        return "none are prepared yet"
    counts = part.meta.train
    return f"{counts.documents:,} documents, {counts.tokens:,} tokens are prepared"
