"""launch/torchrun.sh: what it hands to torchrun, seen through an interpreter that prints its
arguments.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "launch" / "torchrun.sh"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Stands for `python`: torchrun's arguments and the variables that matter are printed, anything
    else runs.
    """
    path = tmp_path / "python"
    path.write_text(
        '#!/bin/bash\nif [[ "$*" == *torch.distributed.run* ]]; then printf "%s\\n" "$@"; env | '
        'grep -E "SOCKET_IFNAME|SHARE_RDZV|OMP_NUM"\n'
        f'else exec {sys.executable} "$@"; fi\n'
    )
    path.chmod(0o755)
    return path


def run(python: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.endswith("SOCKET_IFNAME")
    }
    environment |= {
        "PYTHON": str(python),
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    } | variables
    return subprocess.run(
        [str(SCRIPT), *arguments],
        cwd=python.parent,
        env=environment,
        text=True,
        capture_output=True,
        timeout=120,
    )


def test_one_node_meets_by_itself_and_has_a_rank_without_a_gpu(python: Path) -> None:
    done = run(python, "--config", "a recipe.yaml", "--run.seed", "3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:8] == [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "1",
        "--max-restarts",
        "0",
        "--standalone",
        lines[7],
    ]
    assert lines[7] == str(ROOT / "train" / "pretrain.py") and lines[8:12] == [
        "--config",
        "a recipe.yaml",
        "--run.seed",
        "3",
    ]
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in lines


def test_several_nodes_meet_at_the_head_on_the_way_to_it(python: Path) -> None:
    options = (
        "--nodes",
        "2",
        "--ranks",
        "4",
        "--head",
        "127.0.0.1:29400",
        "--id",
        "job",
        "--max-restarts",
        "3",
    )
    done = run(python, *options, "--", "--config", "x")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "--nproc-per-node 4 --max-restarts 3 --nnodes 2 --rdzv-backend c10d" in text
    assert "--rdzv-endpoint 127.0.0.1:29400 --rdzv-id job --local-addr 127.0.0.1" in text
    assert "GLOO_SOCKET_IFNAME=lo" in text and "NCCL_SOCKET_IFNAME==lo" in text


def test_interfaces_that_are_set_stay(python: Path) -> None:
    done = run(
        python,
        "--nodes",
        "2",
        "--head",
        "127.0.0.1:1",
        "--config",
        "x",
        NCCL_SOCKET_IFNAME="ib0",
        GLOO_SOCKET_IFNAME="eth7",
    )
    assert "NCCL_SOCKET_IFNAME=ib0" in done.stdout and "GLOO_SOCKET_IFNAME=eth7" in done.stdout


def test_logs_are_a_folder_for_each_node(python: Path, tmp_path: Path) -> None:
    done = run(python, "--logs", str(tmp_path / "logs"), "--config", "x")
    [folder] = (tmp_path / "logs").iterdir()
    assert f"--log-dir {folder} --tee 3 --local-ranks-filter 0" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no recipe; add --config train/recipes/NAME.yaml"),
        (("--nodes", "2", "--config", "x"), "--nodes 2 needs --head HOST:PORT"),
        (("--nodes",), "--nodes has no value"),
        (
            ("--nodes", "2", "--head", "no-such-host.invalid:1", "--config", "x"),
            "does not know the host 'no-such-host.invalid'",
        ),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    python: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run(python, *arguments)
    assert (
        done.returncode == 2
        and message in done.stderr
        and "torch.distributed.run" not in done.stdout
    )


def test_ranks_share_the_cores(python: Path) -> None:
    cores = len(os.sched_getaffinity(0))

    def threads(ranks: int, **variables: str) -> list[str]:
        done = run(python, "--ranks", str(ranks), "--config", "x", **variables)
        return [line for line in done.stdout.splitlines() if line.startswith("OMP_NUM_THREADS")]

    assert threads(1, OMP_NUM_THREADS="") == [f"OMP_NUM_THREADS={cores}"]
    assert threads(cores, OMP_NUM_THREADS="") == ["OMP_NUM_THREADS=1"]
    assert threads(2, OMP_NUM_THREADS="5") == ["OMP_NUM_THREADS=5"]
