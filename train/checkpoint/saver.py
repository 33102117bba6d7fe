"""Saves a run's checkpoints. After a failed save the run goes on, until it would lose too much."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.checkpoint.space import NotSaved, bytes_needed, shortage
from train.checkpoint.write import prune, save
from train.cluster.distributed import World
from train.config import CheckpointConfig
from train.engines.protocol import Engine
from train.errors import UserError
from train.models.build import count_parameters


class Saver:
    """Saves a run's checkpoints and counts those that could not be saved.

    Collective to construct and to use.

    Args:
        config: how many to keep, and how many failures to bear.
        folder: where they go.
        engine: what is saved.
        run_identity: what a checkpoint says about the run.
        world: this rank.

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
    ) -> None:
        self._config = config
        self._folder = folder
        self._engine = engine
        self._run_identity = run_identity
        self._world = world
        itemsize = next(engine.module.parameters()).element_size()
        self._needed = bytes_needed(
            count_parameters(engine.module), itemsize, engine.keeps_masters, world.size
        )
        self.failures = 0
        self._in_a_row = 0
        short = world.run_on_main(lambda: shortage(folder, self._needed))
        if short:
            raise UserError(f"there is no room for a checkpoint: {short}")

    def save(
        self,
        step: int,
        client_state: Mapping[str, Any],
        rank_state: Mapping[str, Any] | None = None,
        last: bool = False,
    ) -> Path | None:
        """Write one checkpoint; return None where that failed and the run goes on without.

        Args:
            rank_state: what this rank alone gets back.
            last: no other will follow.

        Raises:
            UserError: it failed, and it was the last or one of too many in a row. On every rank.
        """
        try:
            path = save(
                self._engine,
                self._folder,
                step,
                client_state,
                self._run_identity,
                self._world,
                self._needed,
                rank_state,
            )
        except NotSaved as failure:
            self.failures += 1
            self._in_a_row += 1
            self._report_failure(step, failure, last)
            return None
        self._in_a_row = 0
        if self._world.is_main:
            prune(self._folder, self._config.keep, self._config.keep_every)
        return path

    def _report_failure(self, step: int, failure: NotSaved, last: bool) -> None:
        news = f"the checkpoint of step {step} was NOT saved: {failure}"
        if last or self._in_a_row >= self._config.max_failures:
            reason = f"that is {self._in_a_row} in a row (checkpoint.max_failures)"
            if last:
                reason = "it was to be the run's last"
            raise UserError(
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
