"""Gathers what a rank that stands still can tell of itself: its Python stacks, and torch's flight
recorder, which knows the last collectives that it entered.
"""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from train.cluster.distributed import World

KEPT = 3  # of each group's collectives, the last ones
# torch's dumps: of NCCL's collectives, and of those of every other backend.
_RECORDERS = ("_dump_nccl_trace", "_dump_fr_trace")
Frame = list[Any]  # file, line, function


def facts_of(world: World) -> dict[str, Any]:
    """Return which process this is."""
    return {
        "rank": world.rank,
        "world_size": world.size,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "time": time.time(),
    }


def stacks() -> list[dict[str, Any]]:
    """Return the Python stack of every thread of this process, the main thread's first.

    Returns:
        {"name", "main", "frames": [[file, line, function], ...], the innermost first}.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    found = [
        {"name": names.get(ident, f"thread {ident}"), "main": ident == main, "frames": _walk(frame)}
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    ]
    return sorted(found, key=lambda stack: not stack["main"])


def stack_of(trace: TracebackType | None) -> list[dict[str, Any]]:
    """Return the stack that an exception came from, as the main thread's."""
    return [{"name": "MainThread", "main": True, "frames": _frames(traceback.walk_tb(trace))[::-1]}]


def _walk(frame: FrameType) -> list[Frame]:
    return _frames(traceback.walk_stack(frame))


def _frames(walk: Iterator[tuple[FrameType, int]]) -> list[Frame]:
    summary = traceback.StackSummary.extract(walk, lookup_lines=False)
    return [[entry.filename, entry.lineno, entry.name] for entry in summary]


def collectives() -> list[dict[str, Any]]:
    """Return what the flight recorder knows of each group's collectives.

    Nothing where it is off, or where torch has none for the backend.

    Returns:
        {"group": its name, the same on every rank, "ranks", "last" and "done": the numbers of the
        last collective entered and of the last that was over, "calls": the last ones, {"number",
        "name", "sizes", "frames"}}.
    """
    import torch
    from torch import _weights_only_unpickler as plain  # a dump is of plain values

    found = []
    for name in _RECORDERS:
        dump = getattr(torch._C._distributed_c10d, name, None)
        if dump is not None:
            with suppress(Exception):  # its form is torch's own, and the stacks tell most
                found += list(_by_group(plain.load(io.BytesIO(dump()))))
    return found


def _by_group(trace: dict[str, Any]) -> Iterator[dict[str, Any]]:
    entries: dict[str, list[dict[str, Any]]] = {}
    for entry in trace.get("entries", []):
        if not entry.get("is_p2p"):
            entries.setdefault(str(entry["process_group"][0]), []).append(entry)
    ranks = _ranks_of_groups()
    for group, calls in entries.items():
        calls.sort(key=_number)
        over = [_number(call) for call in calls if call["retired"] or call["state"] == "completed"]
        yield {
            "group": group,
            "ranks": ranks.get(group, []),
            "last": _number(calls[-1]),
            "done": max(over, default=0),
            "calls": [_call(call) for call in calls[-KEPT:]],
        }


def _number(entry: dict[str, Any]) -> int:
    return int(entry["collective_seq_id"])


def _call(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "number": _number(entry),
        "name": str(entry["profiling_name"]),
        "sizes": entry.get("input_sizes"),
        "frames": [[one["filename"], one["line"], one["name"]] for one in entry.get("frames", [])],
    }


def _ranks_of_groups() -> dict[str, list[int]]:
    """Return the ranks of every process group by its name."""
    from torch.distributed import distributed_c10d

    world = distributed_c10d._world
    return {
        str(name): sorted(world.pg_group_ranks.get(group, {}))
        for group, name in world.pg_names.items()
    }
