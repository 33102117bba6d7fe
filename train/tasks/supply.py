"""Gives a rank its share of each batch, read ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from train.cluster.distributed import World
from train.config import TrainConfig
from train.data.loading.micro_batch import MicroBatch
from train.data.loading.read_ahead import ReadAhead


class BatchSource(Protocol):
    """The batches of a run over all ranks; a batch is a function of the seed and its number."""

    def batch(self, k: int, rank: int, world_size: int, micro_batch: int) -> list[MicroBatch]:
        """Return a rank's share of batch k, one micro batch for each accumulation step.

        The order is accumulation-major, so that concatenating the ranks within each step, and then
        the steps, gives the same rows on any number of ranks and with any micro batch.

        Args:
            micro_batch: rows per rank and forward pass.
        """

    def tokens(self, k: int) -> int:
        """Return the positions of batch k over all ranks that are no fill."""


class Supply:
    """The batches of a run as one rank takes them; a context manager.

    Args:
        config: of the run.
        world: this rank.
        source: of all ranks.
        ready: whether a batch can be read yet.
    """

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        source: BatchSource,
        ready: Callable[[int], bool] = lambda k: True,
    ) -> None:
        self._source = source
        run = config.run
        self._reader = ReadAhead(
            lambda k: source.batch(k, world.rank, world.size, run.micro_rows),
            config.data.read_ahead,
            run.steps,
            world.device,
            ready,
        )

    def __enter__(self) -> Supply:
        self._reader.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()

    def batch(self, k: int) -> list[MicroBatch]:
        """Return this rank's micro batches of batch k, which is there."""
        return self._reader.batch(k)

    def tokens(self, k: int) -> int:
        """Return the positions of batch k over all ranks that are no fill."""
        return self._source.tokens(k)

    def wait(self, k: int, ask: Callable[[], str]) -> str:
        """Wait until all rows of batch k are there. Collective.

        Args:
            ask: tells on every rank alike why to stop; empty where nothing asks for it.

        Returns:
            Why to stop instead, which may be that they will not come; empty when they are there.
        """
        return ""

    def check(self) -> None:
        """Check, where a run has stopped, that it was not for rows that will not come.

        Raises:
            UserError: it was. On every rank.
        """
