"""Where the wall time of a run went that was killed in the middle and started again."""

from __future__ import annotations

import json
import math
import signal
import time

import pytest

from alphadecay.inspect.run.goodput import read_attempts
from tests.integration.program import STEPS, metrics
from tests.integration.stopping import held_ranks

CLOCK = 2.0  # seconds: a process's start is known to no better than that
ROUNDED = 1e-4  # seconds of a part in a line


def test_a_kill_and_a_resume_add_up(workplace, tmp_path):
    start = ("--config", str(workplace.recipe), "--output_dir", str(tmp_path / "run"))
    started = time.time()
    # a step has four micro batches: in step 5, after a checkpoint at 3
    held_ranks(tmp_path, 1, *start, at="step:18", send=signal.SIGKILL)
    ended = held_ranks(tmp_path, 1, *start)
    elapsed = time.time() - started
    assert ended.code == 0, ended.output

    found = json.loads((tmp_path / "run/summary.json").read_text())["goodput"]
    seconds = found["seconds"]
    killed, resumed = read_attempts(tmp_path / "run/attempts.jsonl")
    lost = killed.last.step - resumed.first_step
    assert (killed.last.step, resumed.last.step) == (4, STEPS) and lost > 0
    assert (found["attempts"], found["lost_steps"], found["first_step"]) == (2, lost, 0)
    assert math.fsum(seconds.values()) == pytest.approx(found["wall_seconds"], abs=1e-6)
    assert all(value >= -ROUNDED for value in seconds.values()), seconds
    for name in ("start", "training", "data_wait", "refresh", "evaluation", "save_stall", "lost"):
        assert seconds[name] > 0, name
    assert found["wall_seconds"] + found["between_seconds"] <= elapsed + CLOCK
    # metrics.jsonl has every step once: those of the first attempt up to its checkpoint
    lines = [record["seconds"] for record in metrics(tmp_path / "run", "train")]
    expected = math.fsum(line["forward_backward"] + line["step"] for line in lines)
    assert len(lines) == STEPS and seconds["training"] == pytest.approx(expected, abs=10 * ROUNDED)
    assert "Training was" in ended.output and f"{lost} step" in ended.output
