"""A run that diverges ends for good and leaves the checkpoint to go back to."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.integration.program import PROGRAM, environment
from tests.integration.stopping import checkpoints, held_ranks
from tests.waiting import PATIENCE
from train.loop.run_status import main as state_of
from train.loop.run_status import read_state


def last_error(output):
    return [line for line in output.splitlines() if line.startswith("error: ")][-1]


@pytest.mark.parametrize(
    ("stage", "ranks", "every", "stopped_at", "left"),
    [
        # found when it is to be saved, and by the skipped steps
        (2, 1, 1, 4, [2, 3]),
        (3, 2, 3, 5, [3]),
    ],
)
def test_ruined_weights_are_not_saved_and_the_same_command_is_refused(
    workplace, tmp_path, stage, ranks, every, stopped_at, left
):
    run = tmp_path / "run"
    command = [
        *("--config", str(workplace.recipe), "--output_dir", str(run)),
        *("--decay.method", "none", "--deepspeed.config", f"ds_configs/zero{stage}.json"),
        *("--checkpoint.every", str(every), "--checkpoint.keep", "2"),
        *("--run.max_skipped_steps", "1", "--eval.every", "100"),
    ]
    ended = held_ranks(tmp_path, ranks, *command, ruin=4)
    good = run / f"checkpoints/step-{left[-1]:08d}"
    assert ended.code == 2 and f"stopped at step {stopped_at}" in last_error(ended.output)
    assert f"The newest checkpoint is {good}" in last_error(ended.output)
    assert checkpoints(run) == left and read_state(run)["state"] == "failed"

    again = held_ranks(tmp_path, ranks, *command)  # as a launcher or a queue would start it
    assert again.code == 2 and "has diverged with the same settings" in last_error(again.output)
    assert checkpoints(run) == left and state_of([str(run)]) == 1

    # at once: a launcher starts it several times
    (tmp_path / "torch.py").write_text("raise SystemExit('imports torch')")
    quick = subprocess.run(
        [sys.executable, PROGRAM, *command],
        env=environment(PYTHONPATH=str(tmp_path)),
        text=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert quick.returncode == 2 and "has diverged with the same settings" in quick.stderr, quick

    other = held_ranks(tmp_path, ranks, *command, "--resume", str(good))
    assert other.code == 0 and f"going on from {good}" in other.output, other.output
    assert not (run / "diverged.json").exists()
    assert json.loads((run / "begun.json").read_text())["resume"] == str(good.resolve())
