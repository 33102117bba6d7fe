"""Counts the cores that this process may use."""

from __future__ import annotations

import os


def cpu_count() -> int:
    """Return the cores this process may use, within the limits of a container or a batch job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
