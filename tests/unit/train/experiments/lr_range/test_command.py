"""The command of the range test, with a stand-in for the program."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from train.config.command_line import load_config
from train.experiments.lr_range import command
from train.experiments.lr_range.command import main
from train.loop.schedules import learning_rate

PROGRAM = """
import json, os, sys
folder = sys.argv[sys.argv.index("--output_dir") + 1]
os.makedirs(folder)
json.dump(sys.argv[1:], open(folder + "/arguments.json", "w"))
with open(folder + "/metrics.jsonl", "w") as file:
    for step in range(1, 31):
        lr = 1e-4 * 1e4 ** ((step - 1) / 29)
        loss = None if step > 28 else 5 - step / 10 if step < 20 else 3 + (step - 20) / 5
        file.write(json.dumps({"kind": "train", "step": step, "lr": lr, "loss": loss}) + "\\n")
sys.exit(1)
"""
ARGUMENTS = ("--config", "evidence", "--from", "1e-4", "--to", "1", "--steps", "30")


@pytest.fixture
def program(tmp_path, monkeypatch) -> Path:
    """Have the stand-in run, which ends as a run that diverges does."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    monkeypatch.setattr(
        command, "program_line", lambda arguments, ranks: [sys.executable, str(path), *arguments]
    )
    return tmp_path / "out"


def test_it_trains_reads_and_draws(program, capsys):
    own = ("--", "--model.num_layers", "2")
    assert main([*ARGUMENTS, "--out", str(program), *own]) == 0
    config = load_config(json.loads((program / "arguments.json").read_text()))
    rates = [learning_rate(config.optim, step, 30) for step in (1, 15.5, 30)]
    assert rates == pytest.approx([1e-4, 1e-2, 1.0])
    assert (config.run.steps, config.model.num_layers, config.log.every) == (30, 2, 1)
    found = json.loads((program / "lr_range.json").read_text())
    assert len(found["rates"]) == 28  # those after it have no loss
    told = capsys.readouterr().out
    assert f"--optim.lr {found['suggested']:.2g}, a tenth" in told
    assert (program / "lr_range.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--config", "evidence", "--from", "1", "--to", "1e-3"), "--from is 1 and --to 0.001"),
        (
            (*ARGUMENTS, "--", "--optim.weight_decay", "2"),
            "a step would decay weights by 1 x 10, to nothing or beyond; set --to 0.09, or less",
        ),
        ((*ARGUMENTS, "--", "--optim.lr", "1"), "--optim.lr cannot stand after --"),
        (("--config", "evidenze"), "evidence"),
    ],
)
def test_what_cannot_be(program, capsys, arguments, said):
    assert main(["--out", str(program), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not program.exists()


def test_the_last_rate_is_what_the_decay_allows(program):
    own = ("--", "--optim.weight_decay", "2")
    assert main(["--config", "evidence", "--out", str(program), *own]) == 0
    config = load_config(json.loads((program / "arguments.json").read_text()))
    assert (config.optim.lr, config.run.steps) == (0.09, 100)


def test_a_folder_that_is_taken_is_not_written_to(program, capsys):
    program.mkdir()
    (program / "thesis.txt").touch()
    assert main([*ARGUMENTS, "--out", str(program)]) == 2
    assert "is not empty; remove it, or name another" in capsys.readouterr().err
