"""The examples, started as their first lines say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration.program import _NOT_INHERITED

TORCHRUN = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc_per_node", "2"]
RESULT = re.compile(r"^(\w+\.weight) +decay ([\d.]+)  alpha ([\d.]+)$", re.MULTILINE)


def run(cwd: Path, *command: str) -> tuple[int, str]:
    """Exit code and output of a command on CPU, in a folder that is not the project's."""
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("name", "launcher"),
    [
        ("plain", [sys.executable]),
        ("ddp", TORCHRUN),
        ("fsdp2", TORCHRUN),
        ("zero", TORCHRUN),
        ("trainer", [sys.executable]),
        ("trainer", TORCHRUN),
    ],
)
def test_runs_as_it_says(tmp_path: Path, name: str, launcher: list[str]) -> None:
    code, output = run(tmp_path, *launcher, "-m", f"alphadecay.examples.{name}")
    found = RESULT.findall(output)
    names = [module for module, _, _ in found]
    assert names == ["up.weight", "down.weight", "mix.weight", "out.weight"], output
    decays = [float(decay) for _, decay, _ in found]
    assert (min(decays), max(decays)) == (0.067, 0.5)
    # a guess among 24 costs 3.18
    assert 0 < float(re.findall(r"^final loss ([\d.]+)$", output, re.MULTILINE)[0]) < 2.9
    assert code == 0, output


def test_an_example_of_several_ranks_says_how_to_start_it(tmp_path: Path) -> None:
    code, output = run(tmp_path, sys.executable, "-m", "alphadecay.examples.ddp")
    assert code == 1
    assert "torchrun --standalone --nproc_per_node 2 -m alphadecay.examples.ddp" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("name", ["plain", "ddp", "fsdp2", "zero", "trainer"])
def test_each_reads_in_a_minute(name: str) -> None:
    lines = (ROOT / "alphadecay" / "examples" / f"{name}.py").read_text().splitlines()
    assert len(lines) <= 45
    assert all(any(f"# {number}." in line for line in lines) for number in (1, 2, 3))
