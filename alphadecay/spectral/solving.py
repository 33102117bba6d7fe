"""Ways to solve several Grams of one side: one by one, in one batched call, by several threads.

Which is fastest, and in which precision, depends on the device: see `alphadecay/calibration.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import torch

from alphadecay.spectral.gram import Gram
from alphadecay.spectral.row import EstimateRow

Solve = Callable[[Gram], EstimateRow]
Solver = Callable[[Sequence[Gram], Solve], list[EstimateRow]]

THREADS = 4  # an H200 took 3.9 ms at side 512 with four, 13 with one (float32)
TOGETHER = THREADS  # Grams held at once by a solver that gains from several


class Way(NamedTuple):
    """This is how the spectra of one shape are solved.

    precision: of the Gram and its eigenvalues, float32 or float64.
    solver: a key of SOLVERS.
    """

    precision: torch.dtype = torch.float32
    solver: str = "one_by_one"

    @property
    def together(self) -> int:
        """How many Grams to hold before they are solved."""
        return 1 if self.solver == "one_by_one" else TOGETHER

    def pack(self) -> tuple[float, float]:
        """Return two numbers, which ranks can share."""
        return float(self.precision.itemsize), float(list(SOLVERS).index(self.solver))

    @classmethod
    def unpack(cls, numbers: Sequence[float]) -> Way:
        """Return the way of two numbers that `pack` made."""
        itemsize, index = numbers
        precision = torch.float64 if itemsize == torch.float64.itemsize else torch.float32
        return cls(precision, list(SOLVERS)[int(index)])


def one_by_one(grams: Sequence[Gram], solve: Solve) -> list[EstimateRow]:
    """Solve each in turn."""
    return [solve(gram) for gram in grams]


def stacked(grams: Sequence[Gram], solve: Solve) -> list[EstimateRow]:
    """Solve all in one batched call."""
    return solve(Gram.stack(grams)).unstack()


def threaded(grams: Sequence[Gram], solve: Solve) -> list[EstimateRow]:
    """Solve in a few host threads, each on a stream of its own where the Grams lie on a GPU: an
    eigensolver blocks the thread that calls it, and leaves most of a GPU idle.

    The rows come back on the host, in order. An error of any is raised once all have ended.
    """
    streams = Streams(grams)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="alphadecay-solve") as pool:
        rows = [pool.submit(streams.beside, solve, gram) for gram in grams]
    return [row.result() for row in rows]


SOLVERS: Mapping[str, Solver] = {
    "one_by_one": one_by_one,
    "stacked": stacked,
    "threads": threaded,
}


def in_parts(
    rows_of: Callable[[Sequence[Gram]], list[EstimateRow]], grams: Sequence[Gram]
) -> list[EstimateRow]:
    """Return the rows of all at once, or of halves where the device's memory is too small for it.

    Raises:
        torch.OutOfMemoryError: it is too small for one.
    """
    if len(grams) > 1:
        try:
            return rows_of(grams)
        except torch.OutOfMemoryError:
            half = len(grams) // 2
        # outside, where the error no longer holds the memory
        return in_parts(rows_of, grams[:half]) + in_parts(rows_of, grams[half:])
    return rows_of(grams)


@cache
def load_solvers(device: torch.device) -> None:
    """Solve something small, once: torch loads its solvers at their first call, and fails where two
    threads make that call at the same time (pytorch issue 90613).
    """
    torch.linalg.eigvalsh(torch.eye(2, device=device))


class Streams:
    """These are streams to solve Grams on, one for each thread, beside the caller's.

    Args:
        grams: what will be solved; the streams wait for the work that is queued on their devices.
    """

    def __init__(self, grams: Iterable[Gram]) -> None:
        self._queued: dict[torch.device, torch.cuda.Event] = {}
        self._streams: dict[tuple[torch.device, int], torch.cuda.Stream] = {}
        for device in {gram.matrix_KK.device for gram in grams}:
            if device.type == "cuda":
                load_solvers(device)
                self._queued[device] = torch.cuda.Event()
                self._queued[device].record(torch.cuda.current_stream(device))

    def beside(self, solve: Solve, gram: Gram) -> EstimateRow:
        """Solve on this thread's stream; return on the host, so that it has ended."""
        device = gram.matrix_KK.device
        if device not in self._queued:
            return solve(gram)
        key = (device, threading.get_ident())
        if key not in self._streams:
            self._streams[key] = torch.cuda.Stream(device)
        stream = self._streams[key]
        with torch.cuda.stream(stream):
            stream.wait_event(self._queued[device])
            return EstimateRow(*solve(gram).pack().cpu().unbind(-1))
