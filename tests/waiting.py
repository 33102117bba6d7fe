"""Waits for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds after which a wait has failed: longer than anything takes on a slow machine.
PATIENCE = 300.0


def until(
    condition: Callable[[], object],
    what: str | Callable[[], str] = "what the test waits for",
    seconds: float = PATIENCE,
) -> None:
    """Return when `condition()` is true; raise where it is not within `seconds`.

    Args:
        what: names the condition in the error; a function is called then, to look at what is there.

    Raises:
        AssertionError: it did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds:g} s: {said}")
        time.sleep(0.01)
