"""Counts what a job costs besides time: collectives, bytes on the wire, memory.

Collectives are counted below every Python wrapper of them.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

# An option of glibc's mallopt: a fixed threshold has large tensors mapped and unmapped one by one.
M_MMAP_THRESHOLD = -3
Job = Callable[[], object]


class CountCollectives(TorchDispatchMode):
    """Counts c10d operations below every Python wrapper of them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            self.calls[func._schema.name.removeprefix("c10d::")] += 1
        return func(*args, **(kwargs or {}))


class CountBytes(TorchDispatchMode):
    """Counts the bytes that this rank's collectives send to and receive from other ranks.

    They are counted below every Python wrapper of them.
    """

    def __init__(self, world_size: int, rank: int) -> None:
        super().__init__()
        self.world_size = world_size
        self.rank = rank
        self.sent = self.received = 0.0
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            self.calls += 1
            sent, received = self._traffic(func._schema.name.removeprefix("c10d::"), args)
            self.sent += sent
            self.received += received
        return func(*args, **(kwargs or {}))

    def _traffic(self, name: str, args: Any) -> tuple[float, float]:
        others = self.world_size - 1
        if name == "alltoall_base_":
            output = args[0]
            buffer = args[1]
            splits_out = args[3]
            splits_in = args[4]
            sent = sum(splits_in) - splits_in[self.rank]
            received = sum(splits_out) - splits_out[self.rank]
            return sent * buffer.element_size(), received * output.element_size()
        if name in ("_allgather_base_", "allgather_"):
            tensor = args[1][0] if isinstance(args[1], list) else args[1]
            return (others * tensor.nbytes,) * 2
        if name == "allreduce_":
            return (2 * others / self.world_size * sum(tensor.nbytes for tensor in args[0]),) * 2
        raise RuntimeError(f"c10d::{name}: its traffic is not counted yet; add it to CountBytes")


def traffic(job: Job, rank: int) -> dict[str, float]:
    with CountBytes(dist.get_world_size(), rank) as count:
        job()
    return {"sent": count.sent, "received": count.received, "collectives": count.calls}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence standard error: the profiler writes two lines each time it runs."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


@contextmanager
def _settled() -> Iterator[None]:
    """Wait after each exchange, until gloo's threads have let go of its buffers.

    The profiler sees no release on their threads.
    """
    exchange = dist.all_to_all_single

    def waits(*args: Any, **kwargs: Any) -> Any:
        result = exchange(*args, **kwargs)
        time.sleep(0.005)
        return result

    dist.all_to_all_single = waits
    try:
        yield
    finally:
        dist.all_to_all_single = exchange


def allocator_peak(job: Job) -> int:
    """Return the highest sum of bytes that torch's CPU allocator handed out since the job began."""
    with (
        quiet(),
        _settled(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded,
    ):
        job()
    events = recorded.profiler.kineto_results.events()
    moves = [event for event in events if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(moves, key=lambda move: move.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def resident_peak(job: Job) -> int | None:
    """Return the rise of the process's peak resident set; None where the system does not tell."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 16)
        libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = _status("VmRSS")
    except (OSError, AttributeError):
        job()
        return None
    job()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(key))
    return int(line.split()[1]) * 1024
