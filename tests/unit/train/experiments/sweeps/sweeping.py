"""What the sweep's tests share: a small grid, and a stand-in for train/pretrain.py that needs no
torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from train.experiments.grids.registry import load_grid
from train.experiments.grids.resolved_run import Planned, plan
from train.experiments.sweeps import local

GRID = """
title: Three
recipe: train/recipes/quickstart.yaml
seeds: [1, 2]
columns: {7M: {run.steps: 20}}
rows:
  Uniform: {decay.method: uniform}
  AlphaDecay: {decay.method: alphadecay}
"""

# Writes state.json as the program does, and then does what FOLDER/behaviour says. A second start
# goes on.
PROGRAM = """
import json, os, signal, sys, time
folder = sys.argv[sys.argv.index("--output_dir") + 1]
def state(name, step=0, reason=""):
    with open(folder + "/state.json.tmp", "w") as file:
        about = {"state": name, "step": step, "steps": 20, "reason": reason, "checkpoint": None}
        json.dump(about, file)
    os.replace(folder + "/state.json.tmp", folder + "/state.json")
open(folder + "/starts", "a").write(os.environ.get("CUDA_VISIBLE_DEVICES", "-") + "\\n")
try:
    behaviour = open(folder + "/behaviour").read()
except FileNotFoundError:
    behaviour = ""
asked = []
own_stop = os.environ["TRAIN_STOP_FILE"]
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
print("so far", flush=True)
if behaviour == "refused":
    print("error: data.files: nothing.txt is not there", file=sys.stderr)
    sys.exit(2)
state("running", 3)
if behaviour == "fails":
    state("failed", 7, "the disk is full")
    raise OSError("the disk is full")
if behaviour == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "waits":
    for _ in range(3000):
        if asked or any(map(os.path.exists, (own_stop, folder + "/go"))):
            break
        time.sleep(0.01)
if asked or os.path.exists(own_stop):
    state("stopped", 5, "SIGTERM" if asked else "stop file")
    sys.exit(75)
json.dump({"val_perplexity": 12.5}, open(folder + "/summary.json", "w"))
state("finished", 20)
"""


def planned(tmp_path: Path, **extra: str) -> list[Planned]:
    """The runs of the grid: two cells, two seeds."""
    (tmp_path / "three.yaml").write_text(GRID)
    return [
        plan(run, extra) for run in load_grid(str(tmp_path / "three.yaml")).runs(tmp_path / "runs")
    ]


def behave(run: Planned, how: str) -> None:
    """What its program will do."""
    run.run.folder.mkdir(parents=True, exist_ok=True)
    (run.run.folder / "behaviour").write_text(how)


def starts(run: Planned) -> list[str]:
    """The GPUs that its program was given, a start each."""
    path = run.run.folder / "starts"
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep starts PROGRAM."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-S", str(tmp_path / "program.py")]
    monkeypatch.setattr(local, "command_line", lambda run, ranks: [*command, *run.arguments])
    monkeypatch.setattr(local, "_POLL", 0.01)
