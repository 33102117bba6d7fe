"""The image, built without a daemon from a base made here: the quickstart runs in it as nobody
special with a read-only root, saves when it is stopped, goes on when it is started again; what is
in its layers is what should be.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.builder import GUARD, IMAGE, Builder, builder
from tests.cluster.network import comes_true
from tests.conftest import ROOT
from tests.integration.program import metrics
from train.loop.run_status import read_state

pytestmark = pytest.mark.slow

CANARY = "canary-4f1c9a"
SHORT = {
    "run.steps": "6",
    "run.global_batch": "4",
    "run.micro_batch": "1",
    "eval.every": "3",
    "eval.tokens": "1024",
    "checkpoint.every": "3",
    "decay.interval": "3",
    "optim.warmup_steps": "1",
    "data.max_documents": "300",
}


@dataclass
class Image:
    """The image, a copy of the project it was built from, and folders for what it writes."""

    tools: Builder
    project: Path
    runs: Path
    data: Path
    printed: str

    def command(self, *arguments: str, name: str = "", **variables: str) -> list[str]:
        """podman's command line for it: read-only, without a network, as the user of the image."""
        options = [
            "--rm",
            "--read-only",
            "--network",
            "none",
            "--no-healthcheck",
            "--tmpfs",
            "/tmp:rw,exec,mode=1777",
            "--cap-drop",
            "ALL",
        ]
        options += [
            "--volume",
            f"{self.runs}:/alphadecay/runs",
            "--volume",
            f"{self.data}:/alphadecay/data",
        ]
        options += ["--name", name] if name else []
        options += [
            part
            for key, value in (variables | {"OMP_NUM_THREADS": "1"}).items()
            for part in ("--env", f"{key}={value}")
        ]
        return self.tools.podman("run", *options, IMAGE, *arguments)

    def run(self, *arguments: str, **variables: str) -> str:
        """What it prints."""
        return self.tools.run(*self.command(*arguments, **variables)).stdout


def quickstart(folder: str, **more: str) -> list[str]:
    """Arguments of a run cut short."""
    overrides = SHORT | {"output_dir": f"runs/{folder}", "log.progress": "lines"} | more
    return [
        "--config",
        "train/recipes/quickstart.yaml",
        *(part for key, value in overrides.items() for part in (f"--{key}", value)),
    ]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("image")
    tools = builder(folder / "store")
    project = folder / "project"
    shutil.copytree(
        ROOT,
        project,
        ignore=shutil.ignore_patterns(
            ".venv", ".git", "runs", "data", "build", "__pycache__", "*.egg-info"
        ),
    )
    # not that data
    shutil.copytree(ROOT / "train" / "data", project / "train" / "data", dirs_exist_ok=True)
    for planted in (".env", "runs/secret.txt", ".git/config", "wandb/settings", "notes.txt"):
        (project / planted).parent.mkdir(parents=True, exist_ok=True)
        (project / planted).write_text(f"WANDB_API_KEY={CANARY}\n")
    began = time.monotonic()
    tools.base()
    print(f"base: {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    printed = tools.build("image", project)
    print(f"image: {time.monotonic() - began:.1f} s")
    runs = folder / "runs"
    data = folder / "data"
    for mounted in (runs, data):
        mounted.mkdir()
        os.chown(mounted, 1000, 1000)
    yield Image(tools, project, runs, data, printed)
    tools.run("buildah", "rmi", "--all", "--force", check=False)


def test_the_quickstart_runs_as_nobody_special_with_a_read_only_root(image: Image) -> None:
    began = time.monotonic()
    output = image.run(*quickstart("whole"), RANKS="2")
    print(f"quickstart: {time.monotonic() - began:.1f} s")
    folder = image.runs / "whole"
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["world_size"], summary["zero_stage"], summary["steps"]) == (2, 3, 6), output
    assert [line["step"] for line in metrics(folder, "train")] == list(range(1, 7))
    assert all(summary["versions"][name] for name in ("alphadecay", "torch", "deepspeed"))
    for written in (*image.runs.rglob("*"), *image.data.rglob("*")):
        assert written.stat().st_uid == 1000, written
    assert image.run("python", "docker/health.py").strip() == "whole: finished"


def test_it_has_no_rights_and_nothing_to_add_packages_with(image: Image) -> None:
    script = (
        "id -u; id -g; touch /alphadecay/train/x || echo read-only; touch /tmp/x && echo writable; "
        "python -m pip --version || echo no pip"
    )
    lines = image.run("bash", "-c", script).splitlines()
    assert (
        lines[:2] == ["1000", "1000"]
        and "read-only" in lines
        and "writable" in lines
        and "no pip" in lines
    )


def test_without_arguments_it_says_what_it_takes(image: Image) -> None:
    assert "LAUNCHER" in image.run()
    assert "--model.hidden_size" in image.run("python", "train/pretrain.py", "--help")


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_a_stopped_container_has_saved_and_goes_on(image: Image, launcher: str) -> None:
    """`podman stop` ends in a SIGTERM to the container's first process; sent here to podman, which
    passes it on.
    """
    name = f"stopped-{launcher}"
    steps = "60"
    arguments = quickstart(
        name, **{"run.steps": steps, "eval.every": "60", "checkpoint.every": "60"}
    )
    log = image.runs / f"{name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            image.command(*arguments, name=name, LAUNCHER=launcher, RANKS="2"),
            env=image.tools.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    file = image.runs / name / "metrics.jsonl"
    assert comes_true(
        lambda: (
            process.poll() is not None
            or (file.exists() and len(metrics(file.parent, "train")) >= 2)
        )
    ), log.read_text()
    assert process.poll() is None, log.read_text()
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(GUARD)
    print(f"{launcher}: stopped in {time.monotonic() - began:.1f} s with {code}")
    state = read_state(image.runs / name)
    assert state["state"] == "stopped" and 2 <= state["step"] < 60, log.read_text()
    assert (image.runs / state["checkpoint"].removeprefix("runs/") / "manifest.json").exists()
    if launcher == "deepspeed":
        assert code == 75, log.read_text()
    went_on = image.run(
        *quickstart(name, **{"run.steps": str(state["step"])}), LAUNCHER=launcher, RANKS="2"
    )
    assert f"step {state['step']} of {state['step']}" in went_on


def test_no_secret_and_no_stray_file_is_in_a_layer(image: Image) -> None:
    found = image.run(
        "bash",
        "-c",
        f"ls -A /alphadecay; ls -A /tmp /root 2>/dev/null; grep -rl {CANARY} /alphadecay /opt "
        "/home /etc /usr/local; true",
    )
    assert (
        CANARY not in found
        and ".env" not in found.split()
        and ".git" not in found.split()
        and "notes.txt" not in found.split()
    )
    described = image.tools.run("buildah", "inspect", IMAGE).stdout
    assert CANARY not in described
    facts = json.loads(described)
    assert (
        facts["Docker"]["config"]["User"] == "1000:1000"
        and facts["Docker"]["config"]["Healthcheck"]["Test"][-1] == "docker/health.py"
    )
    sizes = [
        line.split()
        for line in image.tools.run(
            *image.tools.podman("history", "--format", "{{.Size}} {{.CreatedBy}}", IMAGE)
        ).stdout.splitlines()
    ]
    print("\n".join(" ".join(line[:14]) for line in sizes))


def test_the_inventory_names_every_package(image: Image) -> None:
    began = time.monotonic()
    image.tools.build("sbom", image.project)
    print(f"sbom: {time.monotonic() - began:.1f} s")
    inventory = json.loads((image.project / "build" / "sbom-cpu" / "sbom.json").read_text())
    assert inventory["bomFormat"] == "CycloneDX"
    named = {
        (part["name"].lower().replace("_", "-"), part["version"])
        for part in inventory["components"]
    }
    script = (
        "import importlib.metadata as m; "
        "print(*(f'{d.metadata[\"Name\"]}=={d.version}' for d in m.distributions()))"
    )
    inside = {
        tuple(part.lower().replace("_", "-").split("=="))
        for part in image.run("python", "-c", script).split()
    }
    assert {name for name, _ in inside} >= {"torch", "deepspeed", "transformers", "alphadecay"}
    assert inside - {part for part in inside if part[0] == "alphadecay"} <= named
    pinned = {
        tuple(line.lower().replace("_", "-").split("=="))
        for line in (ROOT / "constraints.txt").read_text().split()
    }
    loose = {name for name, version in inside if (name, version.split("+")[0]) not in pinned} - {
        "alphadecay"
    }
    assert not loose, f"not in constraints.txt: {loose}"
