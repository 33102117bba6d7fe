"""The examples of every framework, started as their first lines say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.integrations
TORCHRUN = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc_per_node", "2"]
RESULT = re.compile(r"^([\w.]+\.weight) +decay ([\d.]+)  alpha ([\d.]+)$", re.MULTILINE)
FINAL_LOSS = re.compile(r"^final loss ([\d.]+)$", re.MULTILINE)
NEEDS = {
    "accelerate": "accelerate",
    "fabric": "lightning",
    "lightning": "lightning",
    "torchtitan": "torchtitan",
    "trainer_muon": "transformers",
    "two_optimizers": "torch",
}


@pytest.mark.parametrize(
    ("name", "launcher"),
    [*((name, [sys.executable]) for name in NEEDS), ("accelerate", TORCHRUN)],
)
def test_runs_as_it_says(tmp_path: Path, name: str, launcher: list[str]) -> None:
    pytest.importorskip(NEEDS[name], reason="made by make integrations")
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "ACCELERATE_USE_CPU": "true",
    }
    done = subprocess.run(
        [*launcher, "-m", f"alphadecay.examples.{name}"],
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    found = RESULT.findall(done.stdout)
    assert [module.removeprefix("net.") for module, _, _ in found] == [
        "up.weight",
        "down.weight",
        "mix.weight",
        "out.weight",
    ], done.stdout
    decays = [float(decay) for _, decay, _ in found]
    # the last decays of a schedule are printed with two figures
    assert max(decays) / min(decays) == pytest.approx(5.0 / 0.67, rel=0.05)
    # a guess among 24 costs 3.18
    assert 0 < float(FINAL_LOSS.findall(done.stdout)[0]) < 2.9


@pytest.mark.parametrize("name", NEEDS)
def test_each_reads_in_a_minute(name: str) -> None:
    lines = (ROOT / "alphadecay" / "examples" / f"{name}.py").read_text().splitlines()
    assert len(lines) <= 50
    assert all(any(f"{number}." in line for line in lines) for number in (1, 2, 3))
