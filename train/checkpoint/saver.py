"""Saves a run's checkpoints. After a failed save the run goes on, until it would lose too much."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from train.checkpoint.async_saves import AsyncSaves
from train.checkpoint.beginning import Beginning
from train.checkpoint.finite import weights_are_finite
from train.checkpoint.in_flight import SaveInFlight
from train.checkpoint.outcomes import NotFinite, Outcomes, Saved
from train.checkpoint.prune import clear_temporary, prune
from train.checkpoint.space import NotSaved, bytes_needed, shortage
from train.checkpoint.write import begin, save
from train.cluster.distributed import World
from train.config import CheckpointConfig
from train.engines.protocol import Engine
from train.errors import UserError
from train.models.build import count_parameters
from train.system.lease import Lease

LAST_TRIES = 3  # no later save makes up for the last; a shared disk fails for moments


def _nothing() -> None:
    """Do nothing."""


class Saver:
    """Saves a run's checkpoints and counts those that could not be saved.

    Collective to construct and to use.

    Args:
        config: how many to keep, and how many failures to bear.
        folder: where they go.
        engine: what is saved.
        run_identity: what a checkpoint says about the run.
        world: this rank.
        lease: rank 0's right to write there.
        beginning: what the run was begun from.
        consumed: the universal checkpoint that it goes on from, to be removed once it has.

    Attributes:
        outcomes: what became of the saves; it counts them, and tells of each that is there.

    Raises:
        UserError: the disk has no room for even one.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        folder: Path,
        engine: Engine,
        run_identity: Mapping[str, Any],
        world: World,
        lease: Lease | None = None,
        beginning: Beginning | None = None,
        consumed: Path | None = None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._engine = engine
        begun = {"begun": beginning.name} if beginning is not None else {}
        self._run_identity = {**run_identity, **begun}
        self._world = world
        self._lease = lease
        self._beginning = beginning
        self._consumed = consumed
        itemsize = next(engine.module.parameters()).element_size()
        self._needed = bytes_needed(
            count_parameters(engine.module),
            itemsize,
            engine.keeps_masters,
            world.size,
            engine.average is not None,
        )
        self.outcomes = Outcomes(config.max_failures, folder, world)
        self._in_flight: SaveInFlight | None = None
        self._told_wait = False
        self._async = AsyncSaves(
            config.asynchronous, engine, world, self._run_identity, lease, self._say
        )
        world.run_on_main(self._clear)
        short = world.run_on_main(self._shortage)
        if short:
            raise UserError(f"there is no room for a checkpoint: {short}")

    @property
    def step_in_flight(self) -> int:
        """The step whose checkpoint is being written beside the training; -1 where none is."""
        return self._in_flight.target.step if self._in_flight is not None else -1

    def part_is_over(self) -> bool:
        """Return whether this rank's part of the save in flight is over: then all can `advance`."""
        return self._in_flight is not None and self._in_flight.part_is_over()

    def save(
        self,
        step: int,
        client_state: Mapping[str, Any],
        rank_state: Mapping[str, Any] | None = None,
        last: bool = False,
        prunes: bool = True,
    ) -> Path | None:
        """Write one checkpoint, or begin to; a save that is in flight is awaited first.

        Returns its folder; None while it is being written, and where that failed and the run goes
        on without. `outcomes.on_saved` is told of every one that is there.

        Args:
            rank_state: what this rank alone gets back.
            last: no other will follow; it is written at once.
            prunes: remove what is older than checkpoint.keep; not while the run may be ruined.

        Raises:
            NotFinite: the weights are not finite. On every rank; all older ones are there.
            LastNotSaved: it failed, and it was the last. On every rank.
            UserError: it failed, and it was one of too many in a row. On every rank.
        """
        self._make_way(bears=last)
        if not weights_are_finite(self._engine, self._world):
            raise NotFinite(f"the weights are not finite after step {step}")
        after = self._prune if prunes else _nothing
        began = time.monotonic()
        try:
            if (
                not last
                and self._async.wanted
                and self._begin(step, client_state, rank_state, after)
            ):
                return None
            path = self._try(step, client_state, rank_state, LAST_TRIES if last else 1)
        except NotSaved as failure:
            self.outcomes.failed(step, failure, last)
            return None
        self.outcomes.saved(Saved(step, path, time.monotonic() - began))
        if self._world.is_main:
            after()
        return path

    def advance(self, bears: bool = False) -> None:
        """Take the save in flight a stage further: all ranks' parts are over. Collective.

        Args:
            bears: its failure is counted and told, and does not end the run.

        Raises:
            UserError: it failed, and was one of too many in a row. On every rank.
        """
        on_its_way = self._in_flight
        if on_its_way is None:
            return
        step = on_its_way.target.step
        self._in_flight = None
        try:
            path = on_its_way.advance()
        except NotSaved as failure:
            self.outcomes.failed(step, failure, bears=bears)
            return
        if path is None:
            self._in_flight = on_its_way
        else:
            self.outcomes.saved(Saved(step, path, on_its_way.seconds))

    def settle(self, bears: bool = False) -> None:
        """Wait for the end of the save in flight. Collective.

        Raises:
            UserError: as `advance`.
        """
        while self._in_flight is not None:
            self.advance(bears)

    def close(self) -> None:
        """End the process beside this rank, if there is one, once nothing is in flight."""
        self._async.close()

    def _make_way(self, bears: bool) -> None:
        """Wait for the save in flight before another."""
        if self._in_flight is None:
            return
        if not bears and not self._told_wait and not self._in_flight.part_is_over():
            self._told_wait = True
            self._say(
                f"a save waits for that of step {self.step_in_flight}, which is still being "
                "written; a larger checkpoint.every, or a faster disk, would spare the wait"
            )
        self.settle(bears)

    def _begin(
        self,
        step: int,
        client_state: Mapping[str, Any],
        rank_state: Mapping[str, Any] | None,
        after: Callable[[], None],
    ) -> bool:
        """Begin to write a checkpoint beside the training; return False where there is no room.

        Raises:
            NotSaved: it cannot be begun. On every rank.
        """
        target = begin(self._folder, step, self._world, self._needed, self._lease)
        self._in_flight = self._async.begin(target, client_state, rank_state, after)
        return self._in_flight is not None

    def _try(
        self,
        step: int,
        client_state: Mapping[str, Any],
        rank_state: Mapping[str, Any] | None,
        tries: int,
    ) -> Path:
        """Write one checkpoint, trying again at once where it fails.

        Raises:
            NotSaved: the last try failed. On every rank.
        """
        for left in reversed(range(tries)):
            try:
                return save(
                    self._engine,
                    self._folder,
                    step,
                    client_state,
                    self._run_identity,
                    self._world,
                    self._needed,
                    rank_state,
                    self._lease,
                )
            except NotSaved as failure:
                if not left:
                    raise
                if self._world.is_main:
                    self._warn(f"the last checkpoint failed and is tried again: {failure}")
        raise AssertionError("the last try returns or raises")

    def _clear(self) -> None:
        """Remove what a killed save left; what cannot be removed costs room, not the run."""
        try:
            clear_temporary(self._folder)
        except OSError as error:
            self._warn(f"what a killed save left could not be removed: {error}")

    def _shortage(self) -> str:
        """Return what to say where there is too little room; what cannot be told is enough."""
        try:
            return shortage(self._folder, self._needed)
        except OSError as error:
            self._warn(f"the room in {self._folder} is not known: {error}")
            return ""

    def _prune(self) -> None:
        """Remove what is no longer needed; the same of that."""
        config = self._config
        try:
            prune(self._folder, config.keep, config.keep_every, self._consumed, self._beginning)
        except OSError as error:
            self._warn(f"old checkpoints could not be removed: {error}; they stay")
        else:
            self._consumed = None

    def _warn(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def _say(self, text: str) -> None:
        if self._world.is_main:
            print(text, flush=True)
