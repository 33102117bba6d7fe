"""Watches every step's loss: skipped steps and spikes are told, and too many skips are noticed."""

from __future__ import annotations

from typing import Any, Protocol

from train.engines.protocol import Engine
from train.loop.stopping.guard import LossSpikeDetector, SkippedSteps


class Notices(Protocol):
    """What takes a notice; train.telemetry.telemetry.Telemetry does."""

    def notice(self, step: int, text: str, **values: Any) -> None:
        """Record something that a person should know of later."""


class LossWatch:
    """The skips and spikes of a run, the same on every rank.

    Args:
        engine: says whether a step was applied.
        telemetry: takes the notices.
        max_skipped_steps: in a row; 0 bears any number.
        spike_sd: standard deviations from which a loss is a spike; 0 tells none.
    """

    def __init__(
        self, engine: Engine, telemetry: Notices, max_skipped_steps: int, spike_sd: float
    ) -> None:
        self._engine = engine
        self._telemetry = telemetry
        self.skips = SkippedSteps(max_skipped_steps)
        self.spikes = LossSpikeDetector(spike_sd)

    def note(self, step: int, loss: float) -> bool:
        """Take in one step; return whether too many in a row were skipped."""
        skipped = not self._engine.step_was_applied()
        too_many = self.skips.note(skipped)
        if skipped:
            self._telemetry.notice(
                step,
                "step skipped: its loss or gradient is not finite "
                f"({self.skips.in_a_row} in a row, {self.skips.total} in all)",
                loss=loss,
                in_a_row=self.skips.in_a_row,
                skipped_steps=self.skips.total,
            )
        mean = self.spikes.mean
        distance = self.spikes.note(loss)
        if distance:
            self._telemetry.notice(
                step,
                f"loss {loss:.4f} is {distance:.1f} standard deviations above its running mean "
                f"{mean:.4f}",
                loss=loss,
                mean=mean,
                deviations=distance,
            )
        return too_many
