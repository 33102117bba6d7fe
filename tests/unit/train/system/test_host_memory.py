"""How much of the host's memory a process may use."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from train.system.host_memory import below_limits, host_memory, memory_left, memory_limits

GIB = 2**30


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    return path


@pytest.mark.parametrize(
    ("line", "files", "limits"),
    [
        ("0::/", {"memory.max": f"{4 * GIB}"}, [4 * GIB]),
        ("0::/", {"memory.max": "max"}, []),
        (
            "0::/job/step",
            {"job/step/memory.max": "max", "job/memory.max": f"{8 * GIB}"},
            [8 * GIB],
        ),
        # in a container the path is the host's, and only the root is there
        ("0::/docker/abc", {"memory.max": f"{2 * GIB}"}, [2 * GIB]),
        ("9:cpu,memory:/job", {"memory/job/memory.limit_in_bytes": f"{GIB}"}, [GIB]),
        ("4:cpuset:/job", {"memory/job/memory.limit_in_bytes": f"{GIB}"}, []),
    ],
)
def test_limits_of_control_groups(
    tmp_path: Path, line: str, files: dict[str, str], limits: list[int]
) -> None:
    for name, text in files.items():
        written(tmp_path / "cgroup" / name, text)
    own = written(tmp_path / "own", line)
    assert list(memory_limits(own, tmp_path / "cgroup")) == limits


def test_without_control_groups_it_is_the_hosts(tmp_path: Path) -> None:
    assert list(memory_limits(tmp_path / "none", tmp_path)) == []
    assert 0 < host_memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("line", "files", "left"),
    [
        # what only caches files can be given up
        (
            "0::/",
            {
                "memory.max": f"{4 * GIB}",
                "memory.current": f"{3 * GIB}",
                "memory.stat": f"anon {GIB}\nactive_file {GIB // 2}\ninactive_file {GIB // 2}",
            },
            [2 * GIB],
        ),
        ("0::/", {"memory.max": "max", "memory.current": f"{GIB}"}, []),
        ("0::/", {"memory.max": f"{GIB}", "memory.current": f"{2 * GIB}"}, [0]),
        ("0::/", {"memory.max": f"{GIB}"}, [GIB]),
        (
            "9:memory:/job",
            {
                "memory/job/memory.limit_in_bytes": f"{4 * GIB}",
                "memory/job/memory.usage_in_bytes": f"{2 * GIB}",
                "memory/job/memory.stat": f"active_file 0\ntotal_active_file {GIB}",
            },
            [3 * GIB],
        ),
    ],
)
def test_what_is_left_below_limits(
    tmp_path: Path, line: str, files: dict[str, str], left: list[int]
) -> None:
    for name, text in files.items():
        written(tmp_path / "cgroup" / name, text)
    assert list(below_limits(written(tmp_path / "own", line), tmp_path / "cgroup")) == left


def test_less_is_left_than_there_is() -> None:
    assert 0 < memory_left() < host_memory()
