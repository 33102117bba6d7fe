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


def memory_left() -> int:
    """Return bytes that can still be taken: of the host's, and below every limit."""
    import psutil

    return min([int(psutil.virtual_memory().available), *below_limits(_OWN, _CGROUPS)])


def memory_limits(own: Path, cgroups: Path) -> Iterator[int]:
    """Yield the limits of a process's control groups, in bytes; each holds for those below it.

    Args:
        own: the process's list of groups, as in /proc/self/cgroup.
        cgroups: where their files are, of version 1 or 2.
    """
    for _, limit in _limited(own, cgroups):
        yield limit


def below_limits(own: Path, cgroups: Path) -> Iterator[int]:
    """Yield how much each of the groups has left; what only caches files can be given up."""
    for group, limit in _limited(own, cgroups):
        used = _number(group / "memory.current", group / "memory.usage_in_bytes")
        yield max(0, limit - max(0, used - _cached(group)))


def _limited(own: Path, cgroups: Path) -> Iterator[tuple[Path, int]]:
    """Yield the groups that have a limit, and the limit."""
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


def _up(root: Path, path: str, name: str) -> Iterator[tuple[Path, int]]:
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
            yield root / folder, int(text)


def _number(*files: Path) -> int:
    """Return the number in the first of the files that is there; 0 where none is."""
    for file in files:
        try:
            return int(file.read_text())
        except (OSError, ValueError):
            continue
    return 0


def _cached(group: Path) -> int:
    """Return the bytes of files in memory; shared memory is not among them."""
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    facts = dict(line.split() for line in lines if len(line.split()) == 2)
    names = ("total_active_file", "total_inactive_file")  # version 1, groups below included
    if names[0] not in facts:
        names = ("active_file", "inactive_file")
    return sum(int(facts.get(name, 0)) for name in names)
