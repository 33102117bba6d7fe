"""Measures where the time of a step goes.

The parts are data, forward and backward, optimizer step, refresh, evaluation and checkpoint; and
compiling, which is taken out of the part it happened in. On
CUDA a part is a pair of events on the current stream, so nothing waits for the device until the
clock is read. What is timed there is the device's own time line: data that was ready before the
device needed it costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from alphadecay.inspect.run.parts import PARTS
from train.models.compiling import compile_seconds


class StepClock:
    """Seconds by part since the last reading.

    Args:
        device: where the work runs; decides between host time and CUDA events.

    Attributes:
        moved: when a part was last entered, or left without an exception, in the seconds of
            time.monotonic(); other threads see by it whether the loop goes on.
        at: the part it is in; empty between parts.
    """

    def __init__(self, device: torch.device) -> None:
        self._events = device.type == "cuda"
        self._unread: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._since = dict.fromkeys(PARTS, 0.0)
        self.moved = time.monotonic()
        self.at = ""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block for `name`, one of PARTS, also where an exception ends it."""
        if name not in self._since:
            raise ValueError(f"{name} is no part of a step; use one of {', '.join(PARTS)}")
        self.moved = time.monotonic()
        self.at = name
        start = self._now()
        compiled = compile_seconds()
        try:
            yield
            self.moved = time.monotonic()
            self.at = ""
        finally:
            end = self._now()
            compiled = compile_seconds() - compiled  # the device waited for it, too
            self._since[name] -= compiled
            self._since["compiling"] += compiled
            if isinstance(start, float) and isinstance(end, float):
                self._since[name] += end - start
            else:
                self._unread.append((name, start, end))  # type: ignore[arg-type]

    def read(self) -> dict[str, float]:
        """Return the seconds by part since the last reading. On CUDA waits for the last event."""
        if self._unread:
            self._unread[-1][2].synchronize()
        for name, start, end in self._unread:
            self._since[name] += start.elapsed_time(end) / 1e3
        self._unread.clear()
        seconds = self._since
        self._since = dict.fromkeys(PARTS, 0.0)
        return seconds

    def _now(self) -> float | torch.cuda.Event:
        if not self._events:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
