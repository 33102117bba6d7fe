"""Kills runs with signal 9 at random moments: nothing that was saved is lost.

Nothing half written is taken for a checkpoint.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT


def trials(out: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run trials in a process of its own: it forks, which pytest's could not do safely."""
    command = [sys.executable, "-m", "tests.trials.kill", "--out", str(out), *arguments]
    environment = os.environ | {
        "TMPDIR": str(out.parent),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        command, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=3600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tallies: list[dict[str, Any]] = json.loads(out.read_text())["trials"]
    return tallies


KINDS = {
    "plain saves": ("--stages", "3"),
    "asynchronous saves": ("--engine", "fsdp2", "--async"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_kills_lose_nothing(tmp_path: Path, kind: str) -> None:
    (ours,) = trials(tmp_path / "kill.json", "--trials", "4", "--naive", "0", *KINDS[kind])
    assert ours["trials"] == 4 and ours["failures"] == [] and ours["steps"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--async",), ("--async", "--engine", "fsdp2")])
def test_a_hundred_kills_lose_nothing_where_a_naive_writer_loses_often(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    tallies = trials(tmp_path / "kill.json", "--trials", "100", "--naive", "40", *more)
    ours = [tally for tally in tallies if tally["writer"] == "commit by rename"]
    naive = [tally for tally in tallies if tally["writer"] == "naive"]
    assert sum(tally["trials"] for tally in ours) == 100
    assert [failure for tally in ours for failure in tally["failures"]] == []
    # Some kills must have fallen into the writing.
    assert sum(tally["moments"].get("writing", 0) for tally in ours) >= 10
    # 5 of 32 were seen. At that rate fewer than two of forty come once in a hundred runs; ours must
    # have none.
    assert sum(len(tally["failures"]) for tally in naive) >= 2
