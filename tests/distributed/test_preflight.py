"""The preflight as it is run: one process a node, here two on one machine."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.integration.program import environment, free_port, run


def preflight(*nodes: tuple[Path, tuple[str, ...]], hosts: str = "n1,n2") -> list[tuple[int, str]]:
    """(exit code, output) of every node; each is the project it runs from and its further
    arguments.
    """
    port = free_port()
    running = []
    for index, (project, arguments) in enumerate(nodes):
        command = [
            sys.executable,
            "-m",
            "train",
            "preflight",
            "--nodes",
            "2",
            "--node",
            str(index),
            "--head",
            f"127.0.0.1:{port}",
        ]
        command += ["--hosts", hosts, "--megabytes", "1", "--free", "0", *arguments]
        variables = environment(GLOO_SOCKET_IFNAME="lo", PYTHONPATH=str(project))
        place = {"cwd": project, "env": variables}
        running.append(
            subprocess.Popen(
                command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **place
            )
        )
    outputs = [process.communicate(timeout=300)[0] for process in running]
    return [(process.returncode, output) for process, output in zip(running, outputs, strict=True)]


def test_two_like_nodes_are_fit_and_nothing_is_left_behind(tmp_path: Path) -> None:
    node = (ROOT, ("--output_dir", str(tmp_path / "runs")))
    (first, said), (second, silent) = preflight(node, node)
    assert (first, second) == (0, 0), said + silent
    assert (
        "all-reduce of 1 MB over 2 ranks" in said
        and "all nodes are fit to train" in said
        and silent == ""
    )
    assert list((tmp_path / "runs").iterdir()) == []


def test_the_node_with_other_sources_and_a_folder_of_its_own_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other"
    for folder in ("alphadecay", "train"):
        shutil.copytree(ROOT / folder, other / folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "train" / "loop.py").open("a") as file:
        file.write("# edited on one node only\n")
    nodes = (
        (ROOT, ("--output_dir", str(tmp_path / "a"))),
        (other, ("--output_dir", str(tmp_path / "b"))),
    )
    (first, said), (second, _) = preflight(*nodes)
    assert (first, second) == (1, 1)
    assert (
        "preflight: 1 of 2 nodes must not train" in said
        and "preflight: n2: commit -, sources" in said
    )
    assert (
        "preflight: n2: does not see what n1 wrote to the output folder; it is not shared" in said
    )
    assert "all-reduce" not in said


def test_a_node_that_says_nothing_is_named(tmp_path: Path) -> None:
    nodes = (
        "--nodes",
        "2",
        "--node",
        "0",
        "--hosts",
        "n1,n2",
        "--head",
        f"127.0.0.1:{free_port()}",
    )
    rest = ("--output_dir", str(tmp_path), "--timeout", "3", "--free", "0")
    outcome = run(1, ROOT, "-m", "train", "preflight", *nodes, *rest)
    assert outcome.code == 1, outcome.output
    assert "preflight: n2: said nothing within 3 s" in outcome.output


def test_a_node_that_cannot_reach_the_first_says_so() -> None:
    nodes = ("--nodes", "2", "--node", "1", "--head", "127.0.0.1:9", "--timeout", "2")
    outcome = run(1, ROOT, "-m", "train", "preflight", *nodes)
    assert outcome.code == 1, outcome.output
    name = f"preflight: {socket.gethostname()}"
    assert f"{name}: cannot reach 127.0.0.1:9 within 2 s" in outcome.output


def test_a_node_without_the_packages_says_so(tmp_path: Path) -> None:
    """-S hides what is installed: the interpreter of another environment."""
    command = [sys.executable, "-S", "-m", "train", "preflight", "--node", "0"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert (
        done.returncode == 1
        and f"preflight: {socket.gethostname()}: {sys.executable} cannot import" in done.stderr
    )
