"""A sweep of real runs: cut, gone on with, one that cannot run, and nothing done twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration.conftest import Workplace
from tests.integration.program import environment, metrics
from tests.integration.sweeping import STEPS, grid
from tests.waiting import PATIENCE, until
from train.experiments.sweeps.command import main
from train.loop.run_status import read_state


@pytest.mark.parametrize(
    ("ranks", "reason"), [("1", "SIGTERM"), pytest.param("2", "stop file", marks=pytest.mark.slow)]
)
def test_a_sweep_is_cut_goes_on_and_ends(
    workplace: Workplace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ranks: str,
    reason: str,
) -> None:
    command = [
        sys.executable,
        "-m",
        "train",
        "sweep",
        str(grid(workplace, tmp_path)),
        "--root",
        str(tmp_path / "runs"),
        "--ranks",
        ranks,
    ]
    place = {"cwd": tmp_path, "env": environment(PYTHONPATH=str(ROOT)), "text": True}
    uniform, alpha, elsewhere = (
        tmp_path / f"runs/toys/toys-tiny-{row}/seed-3"
        for row in ("uniform", "alphadecay", "elsewhere")
    )

    cut = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **place)  # type: ignore[call-overload]
    lines = uniform / "metrics.jsonl"
    until(lambda: lines.exists() or cut.poll() is not None, "the first run's first step")
    cut.send_signal(signal.SIGTERM)
    said = cut.communicate(timeout=PATIENCE)[0]
    state = read_state(uniform)
    assert (
        cut.returncode == 75
        and (state["state"], state["reason"]) == ("stopped", reason)
        and state["step"] < STEPS
    ), said
    assert not alpha.exists()

    done = subprocess.run(  # type: ignore[call-overload]
        [*command, "--jobs", "3"], capture_output=True, timeout=PATIENCE, **place
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and "1 stopped" in lines[0] and "2 missing" in lines[0], (
        done.stdout + done.stderr
    )
    assert any(
        f"toys-tiny-uniform seed 3: started again at step {state['step']} ({reason})" in line
        for line in lines
    ), lines
    assert any("toys-tiny-alphadecay seed 3: finished, perplexity" in line for line in lines), lines
    assert any(
        "toys-tiny-elsewhere seed 3: failed" in line
        and "data.files" in line
        and str(elsewhere) in line
        for line in lines
    ), lines
    assert "failed: toys-tiny-elsewhere seed 3" in lines[-1]
    for folder in (uniform, alpha):
        assert [record["step"] for record in metrics(folder, "train")] == list(range(1, STEPS + 1))
    assert len(metrics(alpha, "refresh")) >= STEPS // 10

    for arguments, code, message in (
        ((), 1, "1 failed, 2 finished"),
        (("--", "--optim.lr", "1e-4"), 2, "optim.lr was 0.003, is 0.0001"),
    ):
        assert main([*command[4:], *arguments]) == code
        printed = capsys.readouterr()
        assert message in printed.out + printed.err
    assert len(metrics(alpha, "train")) == STEPS and "=== " in (alpha / "sweep.log").read_text()
