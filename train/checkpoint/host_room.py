"""Tells whether the hosts' memory has room for copies of the state, alike on every rank."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from train.system.host_memory import host_memory, memory_left

MARGIN = 0.1  # of the host's memory: what auto leaves free
WRITER = 16 << 20  # bytes of the process that writes
_GB = 1e9


@dataclass(frozen=True)
class HostRoom:
    """One rank's need of memory, and what there is on its host.

    Args:
        host: its name.
        needed: bytes that this rank would take more.
        left: bytes that can still be taken.
        whole: bytes that there are.
    """

    host: str
    needed: int
    left: int
    whole: int


def room_here(needed: int) -> HostRoom:
    """Return this rank's need and what its host has now."""
    more = needed + WRITER if needed else 0
    return HostRoom(socket.gethostname(), more, memory_left(), host_memory())


def why_no_room(rooms: Sequence[HostRoom], margin: float) -> str:
    """Return what to say where a host has too little memory; empty where all have enough.

    Args:
        rooms: of all ranks.
        margin: share of a host's memory that must stay free.
    """
    for host in sorted({room.host for room in rooms}):
        here = [room for room in rooms if room.host == host]
        needed = sum(room.needed for room in here)
        left = min(room.left for room in here)
        kept = int(margin * min(room.whole for room in here))
        if needed and needed + kept > left:
            return (
                f"{host} has {left / _GB:,.1f} GB of memory left, and a copy of the state of "
                f"{len(here)} rank{'s' if len(here) > 1 else ''} takes {needed / _GB:,.1f} GB"
                + (f" ({kept / _GB:,.1f} GB stay free)" if kept else "")
            )
    return ""
