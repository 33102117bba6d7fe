"""How many cores there are for this process."""

from __future__ import annotations

import os


def cpu_count() -> int:
    """Cores this process may use; respects the limits of a container or a batch job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
