"""Saves a run's checkpoints between its steps, and knows the newest that is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train import checkpoint
from train.cluster.distributed import World
from train.loop.random_state import random_state
from train.loop.run_status import note_checkpoint
from train.loop.stopping.budget import Budget
from train.telemetry.telemetry import Telemetry


class Saves:
    """The checkpoints of one run, those that are there and the one on its way.

    Args:
        saver: writes them.
        folder: output_dir.
        world: this rank.
        telemetry: times the saves and tells of them.
        budget: must leave time for one.

    Attributes:
        step: of the newest that is there, written or gone on from; -1 before the first.
        path: that checkpoint.
    """

    def __init__(
        self,
        saver: checkpoint.Saver,
        folder: Path,
        world: World,
        telemetry: Telemetry,
        budget: Budget,
    ) -> None:
        self.step = -1
        self.path: Path | None = None
        self._saver = saver
        self._folder = folder
        self._world = world
        self._telemetry = telemetry
        self._budget = budget
        saver.outcomes.on_saved = self._note

    def gone_on_from(self, step: int, path: Path) -> None:
        """Note the checkpoint that the run was resumed from."""
        self.step = step
        self.path = path

    def begun_since(self, step: int) -> bool:
        """Return whether one of this step or a later one is there or on its way."""
        return max(self.step, self._saver.step_in_flight) >= step

    def hold_the_same(self, step: int, skipped: int) -> bool:
        """Return whether the newest holds the weights of this step: only skipped ones came since.

        Args:
            skipped: steps in a row up to this one.
        """
        return bool(skipped) and self.begun_since(step - skipped)

    def save(
        self, step: int, client_state: Mapping[str, Any], last: bool = False, prunes: bool = True
    ) -> None:
        """Write a checkpoint, or begin to. Collective.

        Raises:
            checkpoint.NotFinite: the weights are not finite; nothing was written.
            UserError: it failed, and was the last or one of too many in a row.
        """
        with self._telemetry.clock.part("checkpoint"):
            self._saver.save(step, client_state, random_state(), last=last, prunes=prunes)

    def advance(self) -> None:
        """Take the one on its way a stage further, which all ranks are ready for. Collective."""
        with self._telemetry.clock.part("checkpoint"):
            self._saver.advance()

    def settle(self) -> None:
        """Wait for the one on its way; that it failed is told and borne. Collective.

        Raises:
            UserError: another job has taken output_dir over.
        """
        with self._telemetry.clock.part("checkpoint"):
            self._saver.settle(bears=True)

    def _note(self, saved: checkpoint.Saved) -> None:
        self.step = saved.step
        self.path = saved.path
        self._budget.note("save", saved.seconds)
        if self._world.is_main:
            note_checkpoint(self._folder, saved.step, saved.path)
        self._telemetry.message(f"checkpoint {saved.path}")
