"""A run that everything happens to ends with the figures of one that nobody disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.box import why_no_box
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
COMMAND = (sys.executable, "-m", "tests.trials.bad_week")


@pytest.mark.parametrize("under", ["torchrun", "slurm"])
def test_a_bad_week_changes_no_figure(tmp_path: Path, under: str) -> None:
    if under == "slurm" and (reason := why_no_box()):
        pytest.skip(reason)
    out = tmp_path / "week.json"
    done = subprocess.run(
        [*COMMAND, "--under", under, "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        text=True,
        capture_output=True,
        timeout=7200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    week = json.loads(out.read_text())
    assert week["same_figures"]
    for event in ("kill -9 of a rank", "kill -9 of a launcher", "kill -9 of all", "second job"):
        assert week["events"][event] >= 1
    assert sum(start["faults_told"] for start in week["starts"]) >= 1


def test_where_there_is_no_slurm_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--under", "slurm", "--out", str(tmp_path / "week.json")],
        cwd=ROOT,
        env=os.environ | {"PATH": str(tmp_path)},
        text=True,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 1 and "no SLURM to try it under: needs slurmctld" in done.stderr
