"""What is told of a step: a spike of the loss, a skipped step, and when there were too many."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from train.loop.stopping.guard import EXPERIENCE
from train.loop.stopping.watch import LossWatch


def watch(applied: list[bool], limit: int = 3) -> tuple[LossWatch, list[Any]]:
    """A watch and what it tells; `applied` says of each step to come whether it was taken."""
    told: list[Any] = []
    steps = iter(applied)
    engine = SimpleNamespace(step_was_applied=lambda: next(steps))
    telemetry = SimpleNamespace(notice=lambda step, text, **values: told.append((text, values)))
    return LossWatch(engine, telemetry, limit, 6.0), told  # type: ignore[arg-type]


def test_a_spike_is_told_with_its_distance() -> None:
    losses, told = watch([True] * 100)
    for index in range(2 * EXPERIENCE):
        assert not losses.note(index, 3.0 + 0.1 * (-1) ** index)
    assert not told
    losses.note(99, 9.0)
    [(text, values)] = told
    assert (
        text.startswith("loss 9.0000 is ")
        and "standard deviations above its running mean 3.0" in text
    )
    assert values["loss"] == 9.0 and values["deviations"] > 20


def test_skipped_steps_are_counted_and_too_many_in_a_row_are_noticed() -> None:
    losses, told = watch([False, True, False, False, False])
    said = [losses.note(step, float("nan")) for step in range(5)]
    assert said == [False, False, False, False, True]
    assert [values["in_a_row"] for _, values in told] == [1, 1, 2, 3]
    assert told[-1][1]["skipped_steps"] == 4
