"""A grid as one job array of a real SLURM: what is missing is submitted once, and what the runs
leave is understood.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.cluster.box import Box, Job, edited
from tests.conftest import ROOT
from tests.integration.conftest import Workplace
from tests.integration.program import metrics
from tests.integration.sweeping import STEPS, grid
from tests.waiting import until
from train.loop.run_status import read_state

pytestmark = pytest.mark.slow


def test_an_array_of_a_grid(box: Box, workplace: Workplace, tmp_path: Path) -> None:
    mine = edited("torchrun.sbatch", box.folder, workplace.recipe)
    mine.write_text(
        mine.read_text().replace(
            "#SBATCH --partition", f"#SBATCH --output={tmp_path}/%A_%a.out --partition"
        )
    )
    toys = str(grid(workplace, tmp_path))
    root = tmp_path / "runs"

    def sweep(*arguments: str) -> str:
        """The command's output, whatever its exit code."""
        whole = '"$@" 2>&1; echo "exit code $?"'
        line = [
            sys.executable,
            "-m",
            "train",
            "sweep",
            toys,
            "--root",
            str(root),
            *arguments,
        ]
        return box.client(
            "bash", "-c", whole, "sweep", *line, PYTHONPATH=str(ROOT), DS_ACCELERATOR="cpu"
        )

    submit = ("--launcher", "slurm", "--sbatch", str(mine), "--jobs", "1")
    said = sweep(*submit)
    assert (
        "3 runs: 3 missing" in said and "submitted 3 runs as job" in said and "exit code 0" in said
    ), said
    number = re.findall(r"as job (\d+)", said)[0]
    assert "nothing to submit" in sweep(*submit) and f"queued: job {number}_3" in sweep("--list")
    job = Job(box, number, tmp_path / f"{number}_*.out")
    until(
        lambda: f"job {number}_1" not in sweep("--list") or "running" in sweep("--list"),
        "the first task",
    )
    job.end()
    until(
        lambda: f"{number}_" not in box.client("squeue", "--noheader", "--array", "--format=%i"),
        "an empty queue",
    )

    listed = sweep("--list")
    assert "3 runs: 1 failed, 2 finished" in listed, listed + job.output()
    assert f"failed: job {number}_3 ended before the run began" in listed
    assert "data.files" in job.output()
    for row in ("uniform", "alphadecay"):
        folder = root / f"toys/toys-tiny-{row}/seed-3"
        assert [record["step"] for record in metrics(folder, "train")] == list(range(1, STEPS + 1))
        assert (
            read_state(folder)["state"] == "finished"
            and (folder / "logs" / f"{number}.0").parent.is_dir()
        )
    said = sweep(*submit)
    assert (
        "nothing to submit" in said
        and "--retry-failed submits it again" in said
        and "exit code 1" in said
    )
    said = sweep(*submit, "--retry-failed")
    assert "submitted 1 run as job" in said, said
    Job(box, re.findall(r"as job (\d+)", said)[0], tmp_path / "retried").end()
