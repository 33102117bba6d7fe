"""A sweep of real runs: cut, gone on with, one that cannot run, and nothing done twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.integration.conftest import Workplace
from tests.integration.program import environment, metrics, recipe, write_recipe
from train.experiments.sweeps.command import main
from train.loop.run_status import read_state

STEPS = 40


def grid(workplace: Workplace, folder: Path) -> Path:
    """Two rows that train and one whose text is not there."""
    values = recipe(workplace.values["data"]["files"][0], workplace.folder / "prepared")
    values |= {
        "eval": {"every": STEPS, "tokens": 512},
        "checkpoint": {"every": 0},
        "deepspeed": {"config": "ds_configs/zero0.json"},
    }
    values["run"] |= {"steps": STEPS}
    description = {
        "title": "Tiny",
        "recipe": str(write_recipe(folder / "tiny.yaml", values)),
        "seeds": [3],
        "columns": {"tiny": {}},
        "rows": {
            "Uniform": {"decay.method": "uniform"},
            "AlphaDecay": {"decay.interval": 10},
            "Elsewhere": {"data.files": str(folder / "nothing-*.txt")},
        },
    }
    (folder / "toys.yaml").write_text(yaml.safe_dump(description, sort_keys=False))
    return folder / "toys.yaml"


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
    while not (uniform / "metrics.jsonl").exists() and cut.poll() is None:
        time.sleep(0.01)
    cut.send_signal(signal.SIGTERM)
    said = cut.communicate()[0]
    state = read_state(uniform)
    assert (
        cut.returncode == 75
        and (state["state"], state["reason"]) == ("stopped", reason)
        and state["step"] < STEPS
    ), said
    assert not alpha.exists()

    done = subprocess.run([*command, "--jobs", "3"], capture_output=True, **place)  # type: ignore[call-overload]
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
        assert main([*command[3:], *arguments]) == code
        printed = capsys.readouterr()
        assert message in printed.out + printed.err
    assert len(metrics(alpha, "train")) == STEPS and "=== " in (alpha / "sweep.log").read_text()
