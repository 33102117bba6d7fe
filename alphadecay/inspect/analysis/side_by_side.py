"""Measures several matrices at once, in memory that is bounded.

A solver of a small matrix gains little from a second core, and several solvers gain all of it. Of
large ones there is room for few, and these share the cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

from alphadecay.spectral.gram import full_precision

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_BYTES = 1 << 30  # held at once, unless one alone takes more


def workers_for(device: str, largest: int) -> int:
    """Return how many to measure at once: one for each of torch's threads, if there is room.

    Args:
        device: a GPU is given one after the other.
        largest: bytes that the largest item and the work on it take.
    """
    if torch.device(device).type != "cpu":
        return 1
    return max(1, min(torch.get_num_threads(), MOST_BYTES // max(1, largest)))


def side_by_side(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    size: Callable[[Item], int],
    workers: int,
) -> Generator[Result, None, None]:
    """Yield what `work` makes of each item, in order.

    Items are taken by the caller's thread, `work` is called by others where there are several.
    Where taking one fails, what was begun is yielded before the error is raised.

    Args:
        size: bytes that an item and the work on it take.
        workers: threads; 1 works in the caller's.
    """
    if workers == 1:
        for item in items:
            yield work(item)
        return
    failures: list[BaseException] = []
    with _sharing_threads(workers), ThreadPoolExecutor(workers, "alphadecay-measure") as pool:
        begun = _Begun[Result]()
        try:
            for item in _until_one_fails(items, failures):
                while begun.is_full(size(item), workers):
                    yield begun.oldest()
                # in a list that is emptied: the pool holds on to what it was given for a while
                begun.add(size(item), pool.submit(_work_on, work, [item]))
                del item
            while begun.waiting:
                yield begun.oldest()
        finally:
            pool.shutdown(cancel_futures=True)
    if failures:
        raise failures[0]


def _work_on(work: Callable[[Item], Result], given: list[Item]) -> Result:
    return work(given.pop())


class _Begun(Generic[Result]):
    """Items that are being worked on, in order."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, Future[Result]]] = deque()
        self._held = 0

    def is_full(self, more: int, workers: int) -> bool:
        """Return whether the oldest has to be done before more bytes are taken."""
        enough = self._held + more > MOST_BYTES or len(self.waiting) > workers
        return bool(self.waiting) and enough

    def add(self, size: int, future: Future[Result]) -> None:
        """Note one that is begun."""
        self.waiting.append((size, future))
        self._held += size

    def oldest(self) -> Result:
        """Wait for the one that was begun first."""
        size, future = self.waiting.popleft()
        self._held -= size
        return future.result()


def _until_one_fails(items: Iterable[Item], failures: list[BaseException]) -> Iterator[Item]:
    """Yield items; note the error of taking one instead of raising it."""
    source = iter(items)
    while True:
        try:
            item = next(source)
        except StopIteration:
            return
        except BaseException as error:
            failures.append(error)
            return
        yield item
        del item


@contextmanager
def _sharing_threads(workers: int) -> Iterator[None]:
    """Have every worker compute on its share of torch's threads, and products be exact in all.

    Both settings are the process's.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))
    try:
        with full_precision(torch.device("cpu")):
            yield
    finally:
        torch.set_num_threads(threads)
