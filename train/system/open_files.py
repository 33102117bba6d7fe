"""Raises the limit of open files, which many ranks' connections reach."""

from __future__ import annotations

import resource


def raise_open_file_limit() -> int:
    """Raise this process's soft limit of open files to its hard one, and return it.

    A gloo group holds two descriptors for each other rank, and 1,024 is a usual soft limit: more
    than some 500 ranks would not come together.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # a sandbox may forbid it; few ranks need no more
        return soft
    return hard
