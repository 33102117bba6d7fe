"""The advantage of rows that were followed, and what decay alone would leave of it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from alphadecay.inspect.html.forgetting import advantage
from alphadecay.inspect.html.report import render
from alphadecay.inspect.run.reader import read_run
from tests.unit.alphadecay.inspect.html.made_run import chart, make_run
from train.config import EvalConfig, TrainConfig
from train.config.command_line import dump_config
from train.telemetry.metrics import MetricsWriter

SEEN = 6
DECAY = 0.02  # lr times decay of a step


def losses(step: int) -> dict[str, float]:
    """A text 0.3 harder than the held-out one; half a nat easier once seen, less with each step."""
    held_out = 8.0 - step / 10
    gain = 0.5 * 0.9 ** (step - SEEN) if step >= SEEN else 0.0
    return {"val_loss": held_out, "probe_loss": held_out + 0.3 - gain}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = make_run(tmp_path / "run")
    config = dataclasses.replace(TrainConfig(), eval=EvalConfig(probe_step=SEEN))
    (run / "config.yaml").write_text(dump_config(config))
    (run / "metrics.jsonl").unlink()
    with MetricsWriter(run / "metrics.jsonl") as writer:
        for step in range(0, 13, 2):
            if step:
                line = {"loss": 1.0, "cumulative_decay_mean": step * DECAY}
                writer.write("train", step, line)
            writer.write("validation", step, losses(step))
    return run


def test_it_is_what_the_rows_have_gained_over_text_not_seen(folder: Path) -> None:
    found = advantage(read_run(folder), SEEN)
    assert found is not None
    assert found.steps == [0, 2, 4, 6, 8, 10, 12]
    gains = [0.0, 0.0, 0.0, *(0.5 * 0.9**k for k in (0, 2, 4, 6))]
    assert found.values == pytest.approx(gains, abs=1e-12)
    assert found.bounds[:3] == [None] * 3
    left = [0.5 * math.exp(-k * DECAY) for k in (0, 2, 4, 6)]
    assert found.bounds[3:] == pytest.approx(left, rel=1e-12)


def test_the_page_draws_both(folder: Path) -> None:
    measured, bound = chart(render(read_run(folder)), "forgetting")["data"]
    assert measured["y"][-1] == pytest.approx(0.5 * 0.9**6)
    assert bound["y"][-1] == pytest.approx(0.5 * math.exp(-6 * DECAY))


def test_without_a_validation_after_the_step_there_is_nothing_to_say(folder: Path) -> None:
    assert advantage(read_run(folder), 13) is None
    assert "Forgetting" not in render(read_run(make_run(folder.parent / "other")))
