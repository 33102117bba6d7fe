"""`python -m train sweep`: what it lists, what it submits to a SLURM of stand-ins, and what it
refuses.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.unit.train.experiments.sweeps.sweeping import GRID
from train.config.command_line import dump_config, load_config
from train.experiments.sweeps.command import main
from train.experiments.sweeps.local import LocalSweep
from train.experiments.sweeps.sweep_status import write_job
from train.loop.run_status import write_state

SBATCH = """#!/bin/bash
refused="sbatch: error: Batch job submission failed: Invalid job array specification"
[[ -e $STAND_INS/full ]] && { echo "$refused" >&2; exit 1; }
printf '%s\\n' "$PWD" "$SWEEP" "${RANKS-}" "$@" >"$STAND_INS/submitted"
[[ -e $STAND_INS/at_once ]] && state="$(cat "$STAND_INS/at_once")/state.json" &&
    echo '{"state": "running", "step": 1}' >"$state"
echo "51;cluster"
"""
SQUEUE = """#!/bin/bash
cat "$STAND_INS/queue"
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a sbatch and a squeue; the queue is its file `queue`."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "squeue": SQUEUE, "queue": ""}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_INS", str(folder))
    monkeypatch.delenv("RANKS", raising=False)
    monkeypatch.chdir(ROOT)
    return folder


@pytest.fixture
def sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The command on the grid of four runs: exit code, and what it printed."""
    (tmp_path / "three.yaml").write_text(GRID)

    def run(*arguments: str) -> tuple[int, str]:
        code = main([str(tmp_path / "three.yaml"), "--root", str(tmp_path / "runs"), *arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def test_one_array_of_what_is_missing_and_nothing_twice(
    cluster: Path, sweep: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    runs = tmp_path / "runs" / "three"
    write_state(_made(runs / "three-7m-uniform/seed-1"), "finished", step=20)
    write_state(_made(runs / "three-7m-uniform/seed-2"), "stopped", step=5)
    write_state(
        _made(runs / "three-7m-alphadecay/seed-2"), "failed", step=6, reason="the disk is full"
    )
    code, text = sweep(
        "--launcher",
        "slurm",
        "--jobs",
        "2",
        "--ranks",
        "4",
        "--",
        "--data.tokenizer",
        "",
        "--run.micro_batch=8",
    )
    assert (
        code == 1
        and "4 runs: 1 failed, 1 finished, 1 missing, 1 stopped" in text
        and "submitted 2 runs as job 51" in text
    )
    assert (
        "three-7m-alphadecay seed 2: failed (the disk is full); --retry-failed submits it again"
        in text
    )
    folder, listed, ranks, *arguments = (cluster / "submitted").read_text().splitlines()
    assert (folder, ranks) == (str(ROOT), "4")
    assert arguments == [
        "--parsable",
        "--job-name=three",
        "--array=1-2%2",
        str(ROOT / "launch/slurm/torchrun.sbatch"),
    ]
    lines = [shlex.split(line) for line in Path(listed).read_text().splitlines()]
    where = ["three-7m-alphadecay/seed-1", "three-7m-uniform/seed-2"]
    assert [load_config(line).output_dir for line in lines] == [str(runs / name) for name in where]
    config = load_config(lines[0])
    assert (config.run.seed, config.run.steps, config.run.micro_batch, config.decay.method) == (
        1,
        20,
        8,
        "alphadecay",
    )
    assert [json.loads((runs / name / "slurm.json").read_text())["job"] for name in where] == [
        "51_1",
        "51_2",
    ]

    (cluster / "queue").write_text("51_1\n51_2\n")
    assert "queued at step 5: job 51_2" in sweep("--list")[1]
    code, text = sweep("--launcher", "slurm")
    assert code == 1 and "2 queued" in text and "nothing to submit" in text
    (cluster / "queue").write_text("51_2\n")  # the first has gone, without a word
    assert (
        "1 missing" not in sweep("--list")[1]
        and "failed: job 51_1 ended before the run began" in sweep("--list")[1]
    )
    code, text = sweep("--launcher", "slurm", "--retry-failed")
    assert code == 0 and "submitted 2 runs" in text


def test_a_task_that_begins_before_the_last_is_noted_is_running(
    cluster: Path, sweep: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (cluster / "at_once").write_text(str(_made(tmp_path / "runs/three/three-7m-uniform/seed-1")))
    assert sweep("--launcher", "slurm")[0] == 0
    (cluster / "queue").write_text("51_1\n51_2\n51_3\n51_4\n")
    assert "running at step 1: job 51_1" in sweep("--list")[1]


def test_a_copy_of_the_job_script_and_what_would_be_submitted(
    cluster: Path, sweep: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.sbatch"
    mine.touch()
    code, text = sweep(
        "--launcher",
        "slurm",
        "--sbatch",
        str(mine),
        "--seeds",
        "7",
        "--only",
        "alpha*",
        "--dry-run",
    )
    first, second = text.splitlines()
    assert (
        code == 0
        and first == f"sbatch --parsable --job-name=three --array=1-1 {mine}"
        and not (cluster / "submitted").exists()
    )
    assert load_config(shlex.split(second)).run.seed == 7
    assert not (tmp_path / "runs/three/three-7m-alphadecay").exists()


def test_what_slurm_refuses_and_where_it_is_not(
    cluster: Path,
    sweep: Callable[..., tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (cluster / "full").touch()
    code, text = sweep("--launcher", "slurm")
    assert (
        code == 2
        and "error: sbatch --parsable" in text
        and "Invalid job array specification" in text
    )
    assert not list(tmp_path.glob("runs/**/slurm.json"))
    write_job(tmp_path / "runs/three/three-7m-uniform/seed-1", "9_1", 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    code, text = sweep("--list")
    assert code == 2 and "no squeue here" in text and "remove slurm.json" in text
    monkeypatch.chdir(tmp_path)
    code, text = sweep("--launcher", "slurm")
    assert code == 2 and f"submit from the project's folder: cd {ROOT}" in text


def test_the_list_says_what_runs_cost_and_how_they_stand(
    sweep: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    finished = _made(tmp_path / "runs/three/three-7m-uniform/seed-1")
    write_state(finished, "finished", step=20)
    (finished / "summary.json").write_text('{"val_perplexity": 154.5}')
    (finished / "config.yaml").write_text(
        dump_config(load_config(["--config", "train/recipes/quickstart.yaml", "--run.steps", "20"]))
    )
    code, text = sweep("--list", "--gpu-tflops", "0.5", "--mfu", "0.5", "--seeds", "1")
    title, head, first, second, sums, reckoned = text.splitlines()
    assert code == 0 and title == "three: Three"
    assert head.split() == ["row", "column", "seed", "steps", "tokens", "GPU", "hours", "state"]
    # 20 steps of 32 rows of 128 tokens. Weights of 6 layers (4 x 256², 3 x 256 x 688) and of the
    # head (256 x 4096); attention
    # 2 x 256 x 128 a layer; two operations a weight, three passes.
    flops = (
        3 * 2 * (6 * (4 * 256**2 + 3 * 256 * 688) + 256 * 4096 + 6 * 2 * 256 * 128) * 20 * 32 * 128
    )
    hours = f"{flops / (0.5e12 * 0.5) / 3600:.3g}"
    assert re.split(r"  +", second) == ["AlphaDecay", "7M", "1", "20", "81.9k", hours, "missing"]
    assert re.split(r"  +", first)[:7] == [
        "Uniform",
        "7M",
        "1",
        "20",
        "81.9k",
        hours,
        first.split("  ")[-1],
    ]
    assert (
        "finished, perplexity 154.5; with other settings: decay.method was alphadecay, is uniform"
        in first
    )
    assert sums.startswith("2 runs: 1 finished, 1 missing; 163.8k tokens, ")
    assert (
        reckoned == "GPU hours: training steps alone, at 50% of 0.5 TFLOP/s a GPU (as given); "
        "--gpu-tflops and --mfu take others"
    )


def test_what_was_not_reached_is_counted_as_it_stands(
    sweep: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(_made(tmp_path / "runs/three/three-7m-alphadecay/seed-2"), "stopped", step=5)
    monkeypatch.setattr(LocalSweep, "run", lambda _: 75)  # asked to stop ahead of the first
    code, text = sweep()
    assert code == 75 and text.splitlines()[1].endswith("4 runs: 3 missing, 1 stopped")
    assert text.splitlines()[2].endswith("stopped: three-7m-alphadecay seed 2")


def test_the_list_waits_for_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, train.experiments.sweeps.command; "
        "print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, cwd=ROOT, timeout=120
    )
    assert shown.stdout == "[]\n", shown.stderr


def test_the_list_of_the_shipped_grids(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line.split()[0]: line.split()[1:3] for line in lines[1:-1]}
    assert (
        found["adam"] == ["52", "52"]
        and found["seeds"] == ["6", "36"]
        and found["assignment"] == ["5", "5"]
    )
    assert lines[-1] == (
        "GPU hours: training steps alone, at 40% of 989.4 TFLOP/s a GPU (H100, dense bf16, data "
        "sheet); --gpu-tflops and --mfu take others"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "adam, adamw, seeds, assignment, score, tail, interval, s1s2"),
        (["--list", "--only", "60M*", "adam"], "name a grid, ahead of the options"),
        (["adammm"], "no grid 'adammm'; did you mean adam"),
        (["adam", "--only", "7B*"], "--only '7B*' matches no cell of adam"),
        (
            ["adam", "--", "--run.seed", "3"],
            "--run.seed cannot stand after --: the sweep sets it for each run (--seeds)",
        ),
        (["adam", "--", "--config", "x.yaml"], "--config cannot stand after --"),
        (["adam", "--", "--run.stepz", "3"], "unknown key 'run.stepz'"),
        (
            ["tail", "--", "--run.steps", "x"],
            "tail, Uniform at 135M, 5e-6: run.steps must be an integer",
        ),
        (["tail", "--", "--optim.weight_decay", "0"], "multiplies optim.weight_decay, which is 0"),
        (
            ["tail", "--", "--data.tokenizer", "no.model"],
            "data.tokenizer: no.model does not exist; correct the path",
        ),
    ],
)
def test_mistakes(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    own, after = (
        (arguments[: arguments.index("--")], arguments[arguments.index("--") :])
        if "--" in arguments
        else (arguments, [])
    )
    assert main([*own, "--root", str(tmp_path), *after]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--jobs", "0"],
        ["--mfu", "0"],
        ["--gpu-tflops", "much"],
        ["--seeds", "-1"],
        ["--launcher", "pbs"],
    ],
)
def test_options_out_of_range(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["adam", *arguments])
    assert ended.value.code == 2


def test_a_dry_run_here_prints_the_commands(
    sweep: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    write_state(_made(tmp_path / "runs/three/three-7m-uniform/seed-1"), "finished", step=20)
    code, text = sweep("--dry-run", "--ranks", "2", "--seeds", "1")
    [command] = [shlex.split(line) for line in text.splitlines()]
    assert code == 0 and command[:3] == [str(ROOT / "launch/torchrun.sh"), "--ranks", "2"]
    assert load_config(command[3:]).decay.method == "alphadecay"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
