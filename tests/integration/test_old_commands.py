"""Every command line that version 0.1's README names (commit 19b176b) still works, and says what it
is called today.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.integration.conftest import Workplace
from tests.integration.program import PROGRAM, environment, run
from tests.waiting import PATIENCE

NOTE = "note: python -m {old} is now python -m train {new}"
# The paper's is not there before it is downloaded.
TOKENIZER = ("--", "--data.tokenizer", "run/tokenizer.model")
SHOWN = {
    "train.sweep": [
        ["--list"],
        ["adam", "--only", "60M*", "--list"],
        ["adam", "--only", "60M*", "--jobs", "8", "--dry-run", *TOKENIZER],
        [
            "adam",
            "--launcher",
            "slurm",
            "--sbatch",
            "my.sbatch",
            "--jobs",
            "4",
            "--dry-run",
            *TOKENIZER,
        ],
        ["mine.yaml", "--seeds", "0", "1", "2", "--list", "--", "--run.data_seed", "42"],
    ],
    "train.tables": [["mine.yaml", "--seeds", "0", "1", "2"]],
    "train.data.prepare": [["--config", "tiny.yaml", "--data.directory", "prepared"]],
    "train.state": [["run"]],
    "train.report": [["run"]],
    "train.export": [["run", "--out", "hf"]],
    "train.generate": [["run", "--prompt", "def ", "--tokens", "10"]],
    "train.convert": [["run/checkpoints/step-00000006", "--out", "converted"]],
    "train.where": [["--config", "tiny.yaml"]],
    "train.interface": [["127.0.0.1"]],
    "train.preflight": [["--help"]],
}
TODAY = {"train.data.prepare": "prepare"}
LINES = [
    pytest.param(old, line, id=" ".join([old, *line]))
    for old, lines in SHOWN.items()
    for line in lines
]
TARGETS = {"quickstart", "test", "slow", "cluster", "gpu", "help", "image"}


@pytest.fixture
def folder(workplace: Workplace, finished, tmp_path: Path) -> Path:
    """A working directory with a finished run, its recipe, and a grid of one's own."""
    shutil.copytree(finished("python"), tmp_path / "run")
    shutil.copy(workplace.recipe, tmp_path / "tiny.yaml")
    rows = {"Uniform": {"decay.method": "uniform"}, "AlphaDecay": {}}
    grid = {"title": "Mine", "recipe": "tiny.yaml", "columns": {"one": {}}, "rows": rows}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(grid))
    shutil.copy(ROOT / "launch" / "slurm" / "torchrun.sbatch", tmp_path / "my.sbatch")
    return tmp_path


@pytest.mark.parametrize(("old", "line"), LINES)
def test_an_old_name_still_works(folder: Path, old: str, line: list[str]) -> None:
    outcome = run(1, folder, "-m", old, *line)
    new = TODAY.get(old, old.removeprefix("train."))
    assert NOTE.format(old=old, new=new) in outcome.output.splitlines()
    assert "Traceback" not in outcome.output
    # Both come as far as they can here: there are no runs to collate, and no cluster's folder.
    if old == "train.tables":
        assert "error: no run of mine under runs is finished" in outcome.output
    elif "slurm" in line:
        assert "error: submit from the project's folder" in outcome.output
    else:
        assert outcome.code == 0, outcome.output


@pytest.mark.parametrize(
    ("old", "line"), [("train.state", ["run"]), ("train.generate", SHOWN["train.generate"][0])]
)
def test_an_old_name_says_what_the_new_one_says(folder: Path, old: str, line: list[str]) -> None:
    before = run(1, folder, "-m", old, *line).output.splitlines()
    today = run(1, folder, "-m", "train", old.removeprefix("train."), *line).output.splitlines()
    assert [one for one in before if not one.startswith("note: ")] == today


def test_an_old_name_works_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "train.sweep", "--list"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT)),
        text=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert NOTE.format(old="train.sweep", new="sweep") in done.stderr
    assert "adam" in done.stdout


def test_a_dry_run_by_the_programs_own_switch(tmp_path: Path) -> None:
    recipe = str(ROOT / "train" / "recipes" / "llama_1b.yaml")
    outcome = run(1, tmp_path, PROGRAM, "--config", recipe, "--dry-run", "--world-size", "16")
    assert "16 ranks" in outcome.output, outcome.output
    assert "Traceback" not in outcome.output


def test_the_programs_help(tmp_path: Path) -> None:
    outcome = run(1, tmp_path, PROGRAM, "--help")
    assert outcome.code == 0 and "--decay.method" in outcome.output


def test_the_targets_of_make() -> None:
    found = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert found >= TARGETS
