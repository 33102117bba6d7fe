"""How much of the host's memory a process may use."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from train.system.host_memory import host_memory, memory_limits

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
