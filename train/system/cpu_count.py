"""Counts the cores that this process may use."""

from __future__ import annotations

import os


def cpu_count() -> int:
    """Return the cores this process may use, within the limits of a container or a batch job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_of_rank() -> int:
    """Return this rank's share of the cores, at least one, by what launchers say of its node."""
    names = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE", "WORLD_SIZE")  # torchrun's, deepspeed's, anybody's
    ranks = next((os.environ[name] for name in names if os.environ.get(name)), "1")
    return max(1, cpu_count() // max(1, int(ranks)))
