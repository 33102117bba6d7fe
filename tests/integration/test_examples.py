"""The examples, started as their first lines say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration.program import NOT_INHERITED, Outcome, run

TORCHRUN = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc_per_node", "2"]
RESULT = re.compile(r"^(\w+\.weight) +decay ([\d.]+)  alpha ([\d.]+)$", re.MULTILINE)


def start(cwd: Path, *command: str) -> Outcome:
    """Run a command on CPU, in a folder that is not the project's."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
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
    return Outcome(done.returncode, done.stdout)


def check(outcome: Outcome) -> None:
    """It trained, and each layer has a decay of its own."""
    found = RESULT.findall(outcome.output)
    names = [module for module, _, _ in found]
    assert names == ["up.weight", "down.weight", "mix.weight", "out.weight"], outcome.output
    decays = [float(decay) for _, decay, _ in found]
    assert (min(decays), max(decays)) == (0.067, 0.5)
    losses = re.findall(r"^final loss ([\d.]+)$", outcome.output, re.MULTILINE)
    assert 0 < float(losses[0]) < 2.9  # a guess among 24 costs 3.18
    assert outcome.code == 0, outcome.output


@pytest.mark.parametrize(("name", "launcher"), [("plain", [sys.executable]), ("fsdp2", TORCHRUN)])
def test_runs_as_it_says(tmp_path: Path, name: str, launcher: list[str]) -> None:
    check(start(tmp_path, *launcher, "-m", f"alphadecay.examples.{name}"))


@pytest.mark.parametrize(
    ("name", "ranks"), [("ddp", 2), ("zero", 2), ("trainer", 1), ("trainer", 2)]
)
def test_its_ranks_train(tmp_path: Path, name: str, ranks: int) -> None:
    check(run(ranks, tmp_path, "-m", f"alphadecay.examples.{name}"))


def test_an_example_of_several_ranks_says_how_to_start_it(tmp_path: Path) -> None:
    outcome = run(1, tmp_path, "-m", "alphadecay.examples.ddp")
    assert outcome.code == 1
    assert "torchrun --standalone --nproc_per_node 2 -m alphadecay.examples.ddp" in outcome.output
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize("name", ["plain", "ddp", "fsdp2", "zero", "trainer"])
def test_each_reads_in_a_minute(name: str) -> None:
    lines = (ROOT / "alphadecay" / "examples" / f"{name}.py").read_text().splitlines()
    assert len(lines) <= 45
    assert all(any(f"# {number}." in line for line in lines) for number in (1, 2, 3))
