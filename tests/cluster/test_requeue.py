"""Jobs that SLURM interrupts go back into the queue by themselves and end as if nobody had: a
signal by hand, a job that takes the nodes away, with and without notice, and the time limit.
"""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.box import Box, Job, edited
from tests.integration.conftest import Workplace
from tests.integration.program import figures
from tests.waiting import until
from train.checkpoint import find
from train.telemetry.metrics import read_metrics

pytestmark = pytest.mark.slow
STEPS = 40
EVERY = 5
BEFORE = 7
LONGER = ("--run.steps", str(STEPS), "--eval.every", "10", "--checkpoint.every", str(EVERY))
ASKED = "SIGUSR1: asking the run to stop after a checkpoint"


@pytest.fixture(scope="module")
def whole(box: Box, workplace: Workplace) -> list[Any]:
    """Return the records of a job that nobody interrupts."""
    folder = box.folder / "whole"
    job = box.submit(
        edited("torchrun.sbatch", box.folder, workplace.recipe),
        "--output_dir",
        str(folder),
        *LONGER,
    )
    assert job.end() == {"COMPLETED"}, job.output()
    return figures(folder)


def signal_ranks(folder: Path, number: signal.Signals) -> None:
    """To every rank that writes to this folder."""
    found = subprocess.run(
        ["pgrep", "-f", f"python.* -u .*train/pretrain.py .*--output_dir {folder}"],
        text=True,
        capture_output=True,
        timeout=120,
    )
    for pid in found.stdout.split():
        subprocess.run(["kill", f"-{number.name}", pid], check=False, timeout=120)


def held(box: Box, script: Path, folder: Path, *options: str) -> Job:
    """A job whose ranks are held still after some steps, so that no machine is too quick for what
    comes.
    """
    job = box.submit(script, "--output_dir", str(folder), *LONGER, options=options, PREFLIGHT="no")
    lines = folder / "metrics.jsonl"
    until(lambda: lines.exists() and len(read_metrics(lines, "train")) >= BEFORE, f"{BEFORE} steps")
    until((folder / "checkpoints/latest").exists, "the first checkpoint")
    signal_ranks(folder, signal.SIGSTOP)
    return job


def let_go(folder: Path) -> None:
    """Once it has been asked to stop."""
    until(lambda: list((folder / "logs").glob("*/stop")), "the stop file")
    signal_ranks(folder, signal.SIGCONT)


def assert_as_if_whole(job: Job, folder: Path, whole: list[Any]) -> None:
    """It was started twice, and its lines are those of the job that was not interrupted."""
    assert job.end() == {"COMPLETED"}, job.output()
    assert "Restarts=1 " in job.facts() and len(list((folder / "logs").iterdir())) == 2, (
        job.output()
    )
    assert not list(folder.rglob("stop"))
    assert figures(folder) == whole
    found = find("auto", folder / "checkpoints", pytest.fail)
    assert found is not None and found.step == STEPS


def assert_saved_first(job: Job) -> None:
    """It was asked, saved the step it was at, and asked for the queue."""
    said = job.output()
    assert ASKED in said
    [stopped] = [int(step) for step in re.findall(r"requeued to go on from step (\d+)", said)]
    assert BEFORE <= stopped < STEPS and f"is stopped at step {stopped}" in said


@pytest.mark.parametrize("shipped", ["torchrun.sbatch", "deepspeed.sbatch"])
def test_a_signal_by_hand(box: Box, workplace: Workplace, whole: list[Any], shipped: str) -> None:
    folder = box.folder / f"hand-{shipped}"
    job = held(box, edited(shipped, box.folder, workplace.recipe), folder)
    box.client("scancel", "--batch", "--signal=USR1", job.id)
    let_go(folder)
    assert_as_if_whole(job, folder, whole)
    assert_saved_first(job)


def preempt(box: Box) -> Job:
    """Another job that wants both nodes, and comes first."""
    script = box.folder / "urgent.sbatch"
    script.write_text("#!/bin/bash\nsleep 3\n")
    return box.submit(
        script, options=("--partition=urgent", "--nodes=2", "--exclusive", "--time=5")
    )


@pytest.mark.parametrize("shipped", ["torchrun.sbatch", "deepspeed.sbatch"])
def test_a_preemption_with_notice(
    box: Box, workplace: Workplace, whole: list[Any], shipped: str
) -> None:
    folder = box.folder / f"notice-{shipped}"
    job = held(box, edited(shipped, box.folder, workplace.recipe), folder, "--partition=grace")
    urgent = preempt(box)
    let_go(folder)
    assert urgent.end() == {"COMPLETED"}
    assert_as_if_whole(job, folder, whole)
    assert_saved_first(job)
    assert started(urgent) < started(job)


def test_a_preemption_without_notice(box: Box, workplace: Workplace, whole: list[Any]) -> None:
    """It has KillWait, here 5 s: perhaps it saves its step, perhaps it is killed and goes on from
    the last checkpoint.
    """
    folder = box.folder / "no-notice"
    job = held(box, edited("torchrun.sbatch", box.folder, workplace.recipe), folder)
    urgent = preempt(box)
    assert urgent.end() == {"COMPLETED"}
    assert_as_if_whole(job, folder, whole)
    assert "DUE TO PREEMPTION" in job.output() and "going on from" in job.output()
    assert started(urgent) < started(job)


def started(job: Job) -> str:
    """When it was started last, in a form that sorts."""
    [when] = re.findall(r" StartTime=(\S+)", job.facts())
    return str(when)


def test_the_time_limit(box: Box, workplace: Workplace, whole: list[Any]) -> None:
    """SLURM looks at its clock every 30 s: the signal comes 30 to 60 s before the end of three
    minutes.
    """
    folder = box.folder / "limit"
    script = edited("torchrun.sbatch", box.folder, workplace.recipe)
    job = held(box, script, folder, "--time=3", "--signal=B:USR1@30")
    let_go(folder)
    until(lambda: "Restarts=1 " in job.facts(), "the requeue")
    # one limit is enough, on a slow machine too
    box.client("scontrol", "update", f"JobId={job.id}", "TimeLimit=30")
    assert_as_if_whole(job, folder, whole)
    assert_saved_first(job)
