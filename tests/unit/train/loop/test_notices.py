"""What the loop tells of a step: a spike of the loss, a skipped step, and when it has seen too many
of those.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from train.errors import UserError
from train.loop.stopping.guard import EXPERIENCE, LossSpikeDetector, SkippedSteps
from train.loop.trainer import Trainer


def trainer(applied: list[bool], limit: int = 3) -> Any:
    """As much of one as `_watch` looks at; `applied` says of each step to come whether it was
    taken.
    """
    told: list[tuple[str, dict[str, float]]] = []
    steps = iter(applied)
    engine = SimpleNamespace(step_was_applied=lambda: next(steps))
    telemetry = SimpleNamespace(notice=lambda step, text, **values: told.append((text, values)))
    saved: list[bool] = []
    return SimpleNamespace(
        engine=engine,
        telemetry=telemetry,
        told=told,
        saved=saved,
        save=lambda last: saved.append(last),
        step=7,
        folder=Path("runs/x"),
        skips=SkippedSteps(limit),
        spikes=LossSpikeDetector(6.0),
    )


def test_a_spike_is_told_with_its_distance() -> None:
    loop = trainer([True] * 100)
    for index in range(2 * EXPERIENCE):
        Trainer._watch(loop, {"loss": 3.0 + 0.1 * (-1) ** index})
    assert not loop.told
    Trainer._watch(loop, {"loss": 9.0})
    [(text, values)] = loop.told
    assert (
        text.startswith("loss 9.0000 is ")
        and "standard deviations above its running mean 3.0" in text
    )
    assert values["loss"] == 9.0 and values["deviations"] > 20


def test_skipped_steps_are_counted_and_too_many_stop_the_run_with_a_checkpoint() -> None:
    loop = trainer([False, True, False, False, False])
    for _ in range(4):
        Trainer._watch(loop, {"loss": float("nan")})
    assert [values["in_a_row"] for _, values in loop.told] == [1, 1, 2] and not loop.saved
    with pytest.raises(UserError, match="3 steps in a row"):
        Trainer._watch(loop, {"loss": float("nan")})
    assert loop.saved == [True]
