"""Tells now and then how far work on many bytes has come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SECONDS_BETWEEN_LINES = 30.0
GB = 1e9


class ByteProgress:
    """Counts bytes, from any thread, and says a line every half minute.

    Args:
        what: begins the line.
        total: bytes of this process's share.
        say: takes the line.
        now: the clock, in seconds.
    """

    def __init__(
        self,
        what: str,
        total: int,
        say: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._total = total
        self._say = say
        self._now = now
        self._lock = threading.Lock()
        self._done = 0
        self._said = now()

    def add(self, count: int) -> None:
        """Note so many more bytes."""
        with self._lock:
            self._done += count
            now = self._now()
            if now - self._said >= SECONDS_BETWEEN_LINES:
                self._said = now
                self._say(f"{self._what}: {self._done / GB:,.1f} of {self._total / GB:,.1f} GB")
