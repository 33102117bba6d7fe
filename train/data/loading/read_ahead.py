"""Reads batches in a thread before they are needed, into pinned memory where a GPU takes them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from train.data.loading.micro_batch import MicroBatch

MicroBatches = list[MicroBatch]


class ReadAhead:
    """Batches in any order, the ones after the latest read ahead; a context manager.

    A batch is what `read` gives, whoever reads it and when. An error of the thread is raised where
    the batch is asked for. The thread starts with the first batch, and ends on leaving.

    Args:
        read: returns the micro batches of a batch, by its number.
        ahead: batches to read ahead; 0 starts no thread.
        end: number after the last batch of the run.
        device: where the batches go. On CUDA they are read into pinned memory, from which a copy
            keeps nobody waiting.
        ready: whether a batch can be read yet; one that cannot is not read ahead.
    """

    def __init__(
        self,
        read: Callable[[int], MicroBatches],
        ahead: int,
        end: int,
        device: torch.device,
        ready: Callable[[int], bool] = lambda k: True,
    ) -> None:
        self._read = read
        self._ahead = ahead
        self._end = end
        self._device = device
        self._ready = ready
        self._pool: ThreadPoolExecutor | None = None
        self._reading: dict[int, Future[MicroBatches]] = {}

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None
        self._reading.clear()

    def batch(self, k: int) -> MicroBatches:
        """Return batch k, and begin to read those after it."""
        if not self._ahead:
            return self._pinned(k)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "read-ahead", initializer=self._begin)
        wanted = range(k, max(k + 1, min(k + 1 + self._ahead, self._end)))
        for number in set(self._reading) - set(wanted):
            self._reading.pop(number).cancel()
        for number in wanted:
            if number not in self._reading and (number == k or self._ready(number)):
                self._reading[number] = self._pool.submit(self._pinned, number)
        return self._reading.pop(k).result()

    def _begin(self) -> None:
        torch.set_num_threads(1)  # of this thread; the others are for the model
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # else the first GPU gets a context of every rank

    def _pinned(self, k: int) -> MicroBatches:
        batch = self._read(k)
        if self._device.type != "cuda":
            return batch
        return [micro.pinned() for micro in batch]
