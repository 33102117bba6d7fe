"""The job scripts on a real SLURM of two nodes, each with a network of its own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cluster.box import Box, edited
from tests.conftest import ROOT
from tests.integration.conftest import Workplace
from tests.integration.program import figures

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def torchrun(box: Box, workplace: Workplace) -> Path:
    """The shipped script as a user has edited it."""
    return edited("torchrun.sbatch", box.folder, workplace.recipe)


def test_torchrun_trains_over_both_nodes_what_one_machine_trains(
    box: Box, workplace: Workplace, finished: Callable[[str], Path], torchrun: Path
) -> None:
    folder = box.folder / "torchrun"
    job = box.submit(torchrun, "--output_dir", str(folder))
    assert job.end() == {"COMPLETED"}, job.output()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["world_size"] == 2 and summary["zero_stage"] == 3
    assert "all nodes are fit to train" in job.output() and "is finished at step 6" in job.output()
    logs = [
        path.relative_to(folder / "logs" / f"{job.id}.0")
        for path in (folder / "logs").rglob("stdout.log")
    ]
    assert sorted(path.parts[0] for path in logs) == ["n1", "n2"]
    assert figures(folder) == figures(finished("torchrun"))


def test_the_deepspeed_launcher_trains_the_same(
    box: Box, workplace: Workplace, finished: Callable[[str], Path]
) -> None:
    folder = box.folder / "deepspeed"
    job = box.submit(
        edited("deepspeed.sbatch", box.folder, workplace.recipe), "--output_dir", str(folder)
    )
    assert job.end() == {"COMPLETED"}, job.output()
    assert sorted(path.name for path in (folder / "logs" / f"{job.id}.0").glob("rank-*")) == [
        "rank-0.log",
        "rank-1.log",
    ]
    assert figures(folder) == figures(finished("torchrun"))


def test_an_array_is_one_run_for_each_seed(box: Box, torchrun: Path) -> None:
    folder = box.folder / "seeds"
    job = box.submit(
        torchrun, "--output_dir", str(folder), options=("--array=1-2",), PREFLIGHT="no"
    )
    assert job.end() == {"COMPLETED"}, job.output()
    seeds = sorted(folder.iterdir())
    assert [path.name for path in seeds] == ["seed-1", "seed-2"]
    assert [
        yaml.safe_load((path / "config.yaml").read_text())["run"]["seed"] for path in seeds
    ] == [1, 2]
    one, two = (figures(path)[0] for path in seeds)
    assert len(one) == len(two) == 6 and one[0][1] != two[0][1]


def test_preflight_names_the_node_with_another_program_and_a_folder_it_cannot_write(
    box: Box, torchrun: Path
) -> None:
    folder = box.folder / "refused"
    other = box.folder / "other-train"
    folder.mkdir()
    shutil.copytree(ROOT / "train", other, ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "loop.py").open("a") as file:
        file.write("# edited on one node only\n")
    box.inside("n2", "mount", "--bind", str(other), str(ROOT / "train"))
    box.inside("n2", "mount", "--bind", "-o", "ro", str(folder), str(folder))
    try:
        job = box.submit(torchrun, "--output_dir", str(folder))
        assert job.end() == {"FAILED"}, job.output()
    finally:
        box.inside("n2", "umount", str(folder))
        box.inside("n2", "umount", str(ROOT / "train"))
    said = job.output()
    assert "preflight: 1 of 2 nodes must not train" in said and "preflight: n1:" not in said
    assert re.search(r"preflight: n2: commit \S*, sources \w+; n1 has commit", said), said
    assert f"preflight: n2: cannot write to {folder}: Read-only file system" in said
    assert not (folder / "metrics.jsonl").exists()


def test_preflight_names_the_node_that_has_a_folder_of_its_own(box: Box, torchrun: Path) -> None:
    folder = box.folder / "unshared"
    folder.mkdir()
    box.inside("n2", "mount", "-t", "tmpfs", "tmpfs", str(folder))
    try:
        job = box.submit(torchrun, "--output_dir", str(folder))
        assert job.end() == {"FAILED"}, job.output()
    finally:
        box.inside("n2", "umount", str(folder))
    assert "preflight: n1:" not in job.output()
    assert (
        "preflight: n2: does not see what n1 wrote to the output folder; it is not shared"
        in job.output()
    )
