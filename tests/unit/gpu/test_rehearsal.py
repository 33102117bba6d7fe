"""Every case of `make gpu`, on a small model and without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.__main__ import all_cases


def test_without_a_gpu_it_says_how_to_rehearse(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu"],
        cwd=root,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].endswith("--device cpu --toy rehearses")


@pytest.mark.slow
def test_the_rehearsal(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "toy.json"
    words = ["--device", "cpu", "--toy", "--budget", "100000", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu", *words, "--folder", str(tmp_path / "data")],
        cwd=root,
        env=os.environ | {"DS_ACCELERATOR": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    results = json.loads(out.read_text())
    found = {(part, name) for part, cases in results["parts"].items() for name in cases}
    assert found == {(case.part, case.name) for case in all_cases()}
    for part, cases in results["parts"].items():
        for name, case in cases.items():
            for reason in ("failed", "cut_off", "out_of_memory", "left_out"):
                assert reason not in case, (part, name, case)
    assert all(case["ok"] for case in results["parts"]["equality"].values())
    assert "| recipe as shipped |" in done.stdout
