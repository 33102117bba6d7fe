"""A run that everything happens to ends with the figures of one that nobody disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def test_a_bad_week_changes_no_figure(tmp_path: Path) -> None:
    out = tmp_path / "week.json"
    command = [sys.executable, "-m", "tests.trials.bad_week", "--steps", "150", "--out", str(out)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        text=True,
        capture_output=True,
        timeout=7200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    week = json.loads(out.read_text())
    assert week["same_figures"]
    assert week["events"]["second job: refused"] >= 1 and week["events"]["kill -9 of all"] >= 1
    assert sum(start["faults_told"] for start in week["starts"]) >= 1
