"""launch/deepspeed.sh on one machine: asked to stop, it waits for the checkpoint and says that the
run goes on.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration.conftest import Workplace
from tests.integration.program import environment, metrics
from tests.integration.stopping import checkpoints, marked
from tests.waiting import PATIENCE, until
from train.loop.run_status import read_state
from train.loop.stopping.signals import TO_BE_CONTINUED

STEPS = 400  # more than it will come to


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGTERM), pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
    ids=["term", "int"],
)
def test_it_waits_for_the_checkpoint_and_tells_that_the_run_goes_on(
    workplace: Workplace, number: signal.Signals
) -> None:
    mark = uuid.uuid4().hex
    folder = workplace.folder / f"cut-by-{number.name}"
    log = workplace.folder / f"cut-by-{number.name}.log"
    rest = [
        "--config",
        workplace.recipe,
        "--output_dir",
        folder,
        "--run.steps",
        str(STEPS),
        "--checkpoint.every",
        "0",
        "--eval.every",
        str(STEPS),
    ]
    line = [
        str(part)
        for part in (
            ROOT / "launch" / "deepspeed.sh",
            "--ranks",
            "2",
            "--port",
            str(29700 + number),
            *rest,
        )
    ]
    with log.open("w") as output:
        process = subprocess.Popen(
            line,
            env=environment(PYTHON=sys.executable, HELD_MARK=mark),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: process.poll() is not None or _steps(folder), log.read_text)
        process.send_signal(number)
        assert process.wait(PATIENCE) == TO_BE_CONTINUED, log.read_text()
        assert not marked(mark)
    finally:
        for stray in marked(mark):
            stray.kill()
    state = read_state(folder)
    assert (
        state["state"] == "stopped" and state["reason"] == "SIGTERM" and 1 <= state["step"] < STEPS
    )
    assert checkpoints(folder) == [state["step"]]


def _steps(folder: Path) -> int:
    return len(metrics(folder, "train")) if (folder / "metrics.jsonl").exists() else 0
