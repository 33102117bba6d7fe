"""The image's files: linted, pinned, without secrets, and naming what is there. tests/cluster
builds and runs the image.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE = sorted(DOCKER.glob("compose*.yaml"))
SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)(_|$)", re.IGNORECASE)


def program(name: str) -> str:
    """A tool of the environment or the system, or a skip."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"no {name} here; it is in the test extra")
    return found


def instructions(name: str) -> list[str]:
    """The Dockerfile's instructions of one name, continuation lines joined."""
    joined = re.sub(r"\\\n", " ", DOCKERFILE)
    return [line.split(None, 1)[1] for line in joined.splitlines() if line.startswith(f"{name} ")]


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run(
        [program("hadolint"), str(DOCKER / "Dockerfile")],
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_sees_a_fault(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /tmp && sudo true\n")
    assert (
        subprocess.run(
            [program("hadolint"), str(tmp_path / "Dockerfile")], capture_output=True, timeout=120
        ).returncode
        != 0
    )


def test_the_cuda_image_has_the_compiler_that_triton_wants() -> None:
    stages = re.split(r"^FROM ", re.sub(r"\\\n", " ", DOCKERFILE), flags=re.MULTILINE)[1:]
    installs = {
        stage.split()[2]: re.findall(r"apt-get install [^&\n]*", stage)
        for stage in stages
        if "apt-get" in stage
    }
    assert sorted(installs) == ["base", "torch-cuda"]
    (install,) = installs["torch-cuda"]
    assert {"gcc", "g++", "libc6-dev", "--no-install-recommends"} <= {*install.split()}


def test_the_base_is_pinned_by_digest_and_nothing_else_is_pulled() -> None:
    arguments = dict(argument.split("=", 1) for argument in instructions("ARG") if "=" in argument)
    assert re.fullmatch(
        r"docker\.io/library/python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}",
        arguments["PYTHON_IMAGE"],
    )
    froms = [line.split() for line in instructions("FROM")]
    stages = {words[2] for words in froms}
    assert {words[0] for words in froms} <= {
        "${PYTHON_IMAGE}",
        "torch-${FLAVOUR}",
        "scratch",
        *stages,
    }
    assert {"torch-cpu", "torch-cuda", "run", "sbom"} <= stages
    assert not re.search(r"\b(curl|wget|git clone)\b", DOCKERFILE) and arguments["PACKAGES"] == ""
    for stage in re.split(r"^FROM ", re.sub(r"\\\n", " ", DOCKERFILE), flags=re.MULTILINE)[1:]:
        for install in re.findall(r"\bpip [^&\n]*install [^&\n]*", stage):
            assert "--no-cache-dir" in install
            assert "==" in install or "ARG PIP_CONSTRAINT=/alphadecay/constraints.txt" in stage, (
                install
            )
    assert DOCKERFILE.count(" install ") >= 5  # the pattern above does see them


def test_it_does_not_run_as_root_and_holds_no_secret() -> None:
    assert instructions("USER") == ["1000:1000"]
    names = [
        name
        for kind in ("ARG", "ENV")
        for line in instructions(kind)
        for name in re.findall(r"(\w+)=", line)
    ]
    assert "TORCH_INDEX" in names and not [name for name in names if SECRET.search(name)]
    for path in COMPOSE:
        for name in re.findall(r"(\w+): ", path.read_text()):
            assert not SECRET.search(name), (path, name)


def test_only_named_files_reach_the_builder() -> None:
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert rules[0] == "*"
    named = {rule[1:] for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in named)
    assert {
        "alphadecay",
        "train",
        "ds_configs",
        "launch",
        "docker",
        "constraints.txt",
        "pyproject.toml",
    } <= named
    for source in re.findall(r"^COPY ([^-].*) \S+$", DOCKERFILE, re.MULTILINE):
        assert all(name == "." or name.split("/")[0] in named for name in source.split())


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_compose_files_name_what_is_there(path: Path) -> None:
    services = yaml.safe_load(path.read_text())["services"]
    assert services
    for name, service in services.items():
        if path.name == "compose.gpu.yaml":
            assert name in yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
            continue
        check_service(service)


def check_service(service: dict[str, Any]) -> None:
    build = service["build"]
    assert (DOCKER / build["context"]).resolve() == ROOT and (ROOT / build["dockerfile"]).is_file()
    assert f"AS {build['target']}" in DOCKERFILE
    assert (
        service["read_only"] is True
        and service["cap_drop"] == ["ALL"]
        and service["user"].startswith("${USER_ID:-1000}")
    )
    inside = {volume.split(":")[1] for volume in service["volumes"]}
    assert inside == set(json.loads(instructions("VOLUME")[0]))
    for recipe in re.findall(r"train/recipes/\w+\.yaml", " ".join(service.get("command", []))):
        assert (ROOT / recipe).is_file()
    usage = subprocess.run(
        [DOCKER / "entrypoint.sh", "--help"], text=True, capture_output=True, timeout=60
    ).stdout
    assert all(variable in usage for variable in service["environment"])


def test_two_nodes_meet_at_the_first() -> None:
    services = yaml.safe_load((DOCKER / "compose.nodes.yaml").read_text())["services"]
    assert {name: service["hostname"] for name, service in services.items()} == {
        "node-1": "node-1",
        "node-2": "node-2",
    }
    assert {
        (service["environment"]["NODES"], service["environment"]["HEAD"])
        for service in services.values()
    } == {("2", "node-1:29500")}


@pytest.fixture
def entry(tmp_path: Path) -> Any:
    """Runs the entry point in a copy of the project whose launchers print what they were given."""
    (tmp_path / "docker").mkdir()
    (tmp_path / "launch").mkdir()
    shutil.copy(DOCKER / "entrypoint.sh", tmp_path / "docker")
    for name in ("torchrun", "deepspeed"):
        (tmp_path / "launch" / f"{name}.sh").write_text(f'#!/bin/bash\necho "{name} $$ $*"\n')
        (tmp_path / "launch" / f"{name}.sh").chmod(0o755)

    def run(*arguments: str, **variables: str) -> tuple[int, int, str]:
        environment = {"PATH": os.environ["PATH"]} | variables
        process = subprocess.Popen(
            [tmp_path / "docker" / "entrypoint.sh", *arguments],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = process.communicate(timeout=60)
        return process.returncode, process.pid, output

    return run


def test_the_entry_point_becomes_the_launcher(entry: Any) -> None:
    for variables, expected in (
        ({}, "torchrun {} --config r.yaml --run.steps 2"),
        (
            {"RANKS": "2", "NODES": "2", "HEAD": "a:1", "MAX_RESTARTS": "3"},
            "torchrun {} --ranks 2 --nodes 2 --head a:1 --max-restarts 3 --config r.yaml "
            "--run.steps 2",
        ),
        (
            {"LAUNCHER": "deepspeed", "HOSTFILE": "h", "NODE_RANK": "1"},
            "deepspeed {} --hostfile h --node-rank 1 --config r.yaml --run.steps 2",
        ),
    ):
        code, pid, output = entry("--config", "r.yaml", "--run.steps", "2", **variables)
        # The same process: what `docker stop` sends reaches the launcher.
        assert (code, output) == (0, expected.format(pid) + "\n")
    assert entry("--config", "r.yaml", LAUNCHER="mpi")[::2] == (
        2,
        "error: LAUNCHER is mpi; torchrun or deepspeed\n",
    )


def test_the_entry_point_runs_other_commands_and_explains_itself(entry: Any) -> None:
    code, pid, output = entry("bash", "-c", "echo $$")
    assert (code, output) == (0, f"{pid}\n")
    for arguments in ((), ("--help",)):
        code, _, output = entry(*arguments)
        assert code == 0 and "LAUNCHER" in output and "docker stop" in output


def test_the_base_is_renewed_from_what_the_registry_says(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("renew_base.sh", "Dockerfile"):
        shutil.copy(DOCKER / name, tmp_path)
    registry = tmp_path / "bin" / "skopeo"
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    for digest, code in (("sha256:" + "5" * 64, 0), ("", 1)):
        registry.write_text(
            '#!/bin/bash\n[[ "$*" == *docker://docker.io/library/python:3.* ]] && echo '
            f'"{digest}"\n'
        )
        registry.chmod(0o755)
        done = subprocess.run(
            [tmp_path / "renew_base.sh"],
            env=environment,
            text=True,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        expected = re.sub(r"@sha256:\w+", "@sha256:" + "5" * 64, DOCKERFILE)
        assert (tmp_path / "Dockerfile").read_text() == expected


def test_requirements_are_those_of_the_project() -> None:
    done = subprocess.run(
        [sys.executable, DOCKER / "requirements.py", ROOT / "pyproject.toml", "train", "wandb"],
        text=True,
        capture_output=True,
        timeout=60,
    )
    names = {re.split(r"[><=]", line)[0] for line in done.stdout.split()}
    assert {"torch", "numpy", "deepspeed", "transformers", "wandb"} <= names and not names & {
        "pytest",
        "tensorboard",
    }
