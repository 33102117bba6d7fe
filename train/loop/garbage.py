"""Collects Python's garbage between steps, on every rank after the same ones.

By itself Python collects within a step, on one rank now and on another then, and the others wait
for it each time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

EVERY = 100  # steps


@contextmanager
def collected_between_steps() -> Iterator[None]:
    """Keep Python from collecting by itself; what is there now is looked at no more.

    Garbage in cycles waits for `collect_if_due` meanwhile.
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def collect_if_due(step: int) -> bool:
    """Collect after one step in EVERY, and return whether it was this one."""
    if step % EVERY:
        return False
    gc.collect()
    return True
