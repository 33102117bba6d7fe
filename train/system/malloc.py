"""Tells the C library's malloc what to do with freed memory."""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of glibc's mallopt, and the variables that a user sets them by.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_VARIABLES = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
_NEVER = -1  # the largest size there is, as mallopt's page has it


def keep_freed_memory() -> bool:
    """Have malloc keep freed memory for what is asked for next; return whether it will.

    By itself glibc gives every large tensor back to the kernel, which then makes its pages anew,
    one by one and zeroed, at every step. A rank that keeps them takes more memory, for what is free
    lies in pieces.

    What a user has set by MALLOC_* or glibc.malloc tunables stays, and so does another allocator.
    """
    own = any(name in os.environ for name in _VARIABLES)
    if own or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl has none
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
