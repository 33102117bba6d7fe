"""Saves a run's checkpoints. After a failed save the run goes on, until it would lose too much."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.checkpoint.beginning import Beginning
from train.checkpoint.finite import weights_are_finite
from train.checkpoint.prune import clear_temporary, prune
from train.checkpoint.space import NotSaved, bytes_needed, shortage
from train.checkpoint.write import save
from train.cluster.distributed import World
from train.config import CheckpointConfig
from train.engines.protocol import Engine
from train.errors import UserError
from train.models.build import count_parameters
from train.system.lease import Lease

LAST_TRIES = 3  # no later save makes up for the last; a shared disk fails for moments


class NotFinite(UserError):
    """The weights are not finite, and were not saved. Raised on every rank."""


class LastNotSaved(UserError):
    """The last checkpoint could not be written; the older ones are there. Raised on every rank."""


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
            count_parameters(engine.module), itemsize, engine.keeps_masters, world.size
        )
        self.failures = 0
        self._in_a_row = 0
        world.run_on_main(self._clear)
        short = world.run_on_main(self._shortage)
        if short:
            raise UserError(f"there is no room for a checkpoint: {short}")

    def save(
        self,
        step: int,
        client_state: Mapping[str, Any],
        rank_state: Mapping[str, Any] | None = None,
        last: bool = False,
        prunes: bool = True,
    ) -> Path | None:
        """Write one checkpoint; return None where that failed and the run goes on without.

        Args:
            rank_state: what this rank alone gets back.
            last: no other will follow.
            prunes: remove what is older than checkpoint.keep; not while the run may be ruined.

        Raises:
            NotFinite: the weights are not finite. On every rank; all older ones are there.
            LastNotSaved: it failed, and it was the last. On every rank.
            UserError: it failed, and it was one of too many in a row. On every rank.
        """
        if not weights_are_finite(self._engine, self._world):
            raise NotFinite(f"the weights are not finite after step {step}")
        try:
            path = self._try(step, client_state, rank_state, LAST_TRIES if last else 1)
        except NotSaved as failure:
            self.failures += 1
            self._in_a_row += 1
            self._report_failure(step, failure, last)
            return None
        self._in_a_row = 0
        if self._world.is_main and prunes:
            self._prune()
        return path

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

    def _report_failure(self, step: int, failure: NotSaved, last: bool) -> None:
        news = f"the checkpoint of step {step} was NOT saved: {failure}"
        if last or self._in_a_row >= self._config.max_failures:
            reason = f"That is {self._in_a_row} in a row (checkpoint.max_failures)"
            if last:
                reason = "It was to be the run's last"
            raise (LastNotSaved if last else UserError)(
                f"{news}. {reason}; make room and start the run again: it goes on from the newest "
                f"in {self._folder}"
            )
        if self._world.is_main:
            self._warn(
                f"{news} ({self._in_a_row} in a row, {self.failures} in all); the run goes on"
            )
