"""Tells how much of the host's memory this process may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def host_memory() -> int:
    """Return bytes: all of the host's, or what a container or a batch job allows."""
    import psutil

    return min([int(psutil.virtual_memory().total), *memory_limits(_OWN, _CGROUPS)])


def memory_limits(own: Path, cgroups: Path) -> Iterator[int]:
    """Yield the limits of a process's control groups, in bytes; each holds for those below it.

    Args:
        own: the process's list of groups, as in /proc/self/cgroup.
        cgroups: where their files are, of version 1 or 2.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _up(cgroups, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _up(cgroups / "memory", path, "memory.limit_in_bytes")


def _up(root: Path, path: str, name: str) -> Iterator[int]:
    """Yield the numbers in files of a name, from a group up to the root; "max" is no number.

    In a container the root is the container's own group, and the path may not be there.
    """
    group = PurePosixPath(path.lstrip("/"))
    for folder in (group, *group.parents):
        try:
            text = (root / folder / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            yield int(text)
