"""Tells from what the ranks wrote which of them is waited for, and in which collective.

A collective is known by its group and its number in it: where one rank has entered number n and
another n - 1, the second is waited for. A rank may be waited for because it waits itself, in
another group; so the one to name is behind somewhere and waits nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.config.run_folder import HANG
from train.system.provenance import ROOT

Told = Mapping[str, Any]  # what one rank wrote
_LIBRARIES = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Wait:
    """A collective that some ranks have entered and others have not.

    Args:
        group: the name of its process group.
        name: what it is, e.g. gloo:all_reduce.
        place: where it was called.
        arrived, behind: ranks.
    """

    group: str
    name: str
    place: str
    arrived: tuple[int, ...]
    behind: tuple[int, ...]


@dataclass(frozen=True)
class Verdict:
    """Who is waited for.

    Args:
        silent: ranks that wrote nothing.
        missing: ranks that wrote, are behind in a collective and wait in none.
        waits: the collectives that are not complete.
    """

    silent: tuple[int, ...]
    missing: tuple[int, ...]
    waits: tuple[Wait, ...]


def newest_folder(run: Path) -> Path | None:
    """Return the folder of the last start of a run whose ranks stood still; None without one."""
    folders = [path for path in (run / HANG).glob("*") if any(path.glob("rank-*.json"))]
    return max(folders, key=lambda path: path.name, default=None)


def read_told(folder: Path) -> dict[int, dict[str, Any]]:
    """Return what each rank wrote, by rank; a file that cannot be read counts as none."""
    told = {}
    for path in folder.glob("rank-*.json"):
        try:
            one = json.loads(path.read_text(encoding="utf-8"))
            told[int(one["rank"])] = one
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return dict(sorted(told.items()))


def judge(told: Mapping[int, Told]) -> Verdict:
    """Return who is waited for, from what at least one rank wrote."""
    size = max(int(one["world_size"]) for one in told.values())
    silent = tuple(rank for rank in range(size) if rank not in told)
    waits = tuple(_waits(told))
    waiting = {rank for wait in waits for rank in wait.arrived}
    behind = {rank for wait in waits for rank in wait.behind}
    return Verdict(silent, tuple(sorted(behind - waiting - set(silent))), waits)


def _waits(told: Mapping[int, Told]) -> list[Wait]:
    groups: dict[str, dict[int, Told]] = {}
    for rank, one in told.items():
        for group in one["groups"]:
            groups.setdefault(group["group"], {})[rank] = group
    found = [_wait(name, of_ranks) for name, of_ranks in groups.items()]
    return [wait for wait in found if wait is not None]


def _wait(group: str, of_ranks: Mapping[int, Told]) -> Wait | None:
    """Return the first collective of a group that somebody has not entered; None without one."""
    numbers = {rank: int(one["last"]) for rank, one in of_ranks.items()}
    members = {rank for one in of_ranks.values() for rank in one["ranks"]} | set(of_ranks)
    first = min(numbers.values()) + 1
    arrived = [rank for rank, number in numbers.items() if number >= first]
    if not arrived:  # all that wrote are at the same one, and wait for one that did not write
        first -= 1
        arrived = [rank for rank, one in of_ranks.items() if int(one["done"]) < first]
        if not arrived or members == set(of_ranks):
            return None
    call = _call(of_ranks[arrived[0]], first)
    behind = members - {rank for rank, number in numbers.items() if number >= first}
    return Wait(
        group,
        str(call["name"]) if call else "a collective",
        place(call["frames"]) if call else "a place that is not known",
        tuple(sorted(arrived)),
        tuple(sorted(behind)),
    )


def _call(group: Told, number: int) -> Told | None:
    return next((call for call in group["calls"] if call["number"] == number), None)


def place(frames: list[list[Any]]) -> str:
    """Return where in the project a stack is, else where it is at all: file, line and function.

    Args:
        frames: the innermost first.
    """
    if not frames:
        return "a place that is not known"
    ours = (frame for frame in frames if _is_ours(str(frame[0])))
    file, line, function = next(ours, frames[0])
    path = Path(file)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"{shown}, line {line} ({function})"


def _is_ours(file: str) -> bool:
    path = Path(file)
    if not path.is_relative_to(ROOT):
        return False
    return not any(part in _LIBRARIES for part in path.relative_to(ROOT).parts)


def main_frames(one: Told) -> list[list[Any]]:
    """Return the main thread's stack of a rank, the innermost frame first."""
    return next((list(stack["frames"]) for stack in one["threads"] if stack["main"]), [])
