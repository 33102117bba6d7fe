"""Gives loops turns in one process, so that a disturbance meets them alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import torch


class Over(BaseException):
    """Ends an arm's loop from within."""


class Turn:
    """One arm's loop in a thread that runs only between two calls of `step`."""

    def __init__(self, loop: Callable[[Callable[[], None]], None]) -> None:
        self._go = threading.Semaphore(0)
        self._there = threading.Semaphore(0)
        self._over = False
        self._failure = None
        self._thread = threading.Thread(target=self._run, args=(loop,), daemon=True)

    def start(self) -> None:
        """Run to the start of the first step."""
        self._thread.start()
        self._wait()

    def step(self) -> tuple[float, float]:
        """Return the seconds of one iteration: by the wall, and of this process's CPU time."""
        started = time.perf_counter()
        cpu = time.process_time()
        self._go.release()
        self._wait()
        return time.perf_counter() - started, time.process_time() - cpu

    def end(self) -> None:
        """Leave the loop."""
        self._over = True
        self._go.release()
        self._thread.join()

    def _gate(self) -> None:
        """Wait for the next turn; the loop calls this at the start of every step."""
        self._there.release()
        self._go.acquire()
        if self._over:
            raise Over

    def _run(self, loop: Callable[[Callable[[], None]], None]) -> None:
        torch.set_num_threads(1)  # a thread has a setting of its own
        try:
            loop(self._gate)
        except Over:
            pass
        except BaseException as failure:
            self._failure = failure
        self._there.release()

    def _wait(self) -> None:
        self._there.acquire()
        if self._failure is not None:
            raise self._failure
