"""Starts the process group, and tells a rank who it is and what the others say."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store

from train.cluster.launch_environment import alone, environment, meeting_place
from train.errors import Stopped, UserError
from train.system.device import uses_cuda
from train.system.open_files import raise_open_file_limit

T = TypeVar("T")
_LOOK_AGAIN = 1.0  # seconds, at most, between two looks whether all have come
_meetings = itertools.count()  # every rank counts alike
_KINDS: tuple[type[Exception], ...] = (UserError, Stopped)  # raised alike on every rank


@dataclass(frozen=True)
class World:
    """The ranks of a run, as one of them sees them.

    Args:
        rank: this process, of all.
        local_rank: this process, of those on its node.
        size: processes in all.
        device: where this process computes.
        control: a CPU group for small messages between hosts; None before `start`.
    """

    rank: int
    local_rank: int
    size: int
    device: torch.device
    control: Any = None

    @property
    def is_main(self) -> bool:
        """True on the rank that writes and speaks."""
        return self.rank == 0

    def run_on_main(self, action: Callable[[], T], patient: bool = False) -> T:
        """Run `action` on rank 0 and return its result on every rank. Collective.

        The result must pickle. A UserError or Stopped on rank 0 is raised on every rank.

        Args:
            patient: it may take longer than the process group's timeout.
        """
        if self.size == 1:
            return action()
        box: list[Any] = [None, None]
        failure: Exception | None = None
        if self.is_main:
            try:
                box[0] = action()
            except Exception as error:  # whatever it is, the others must not wait for it
                failure = error
                kind = next((kind for kind in _KINDS if isinstance(error, kind)), None)
                box[1] = (kind, f"{error}")
        if patient:
            self.wait_for_all()
        dist.broadcast_object_list(box, src=0, group=self.control)
        if failure is not None:
            raise failure
        if box[1] is not None:
            kind, message = box[1]
            if kind is None:
                raise RuntimeError(f"rank 0 failed: {message}")
            raise kind(message)
        return box[0]

    def run_on_all(self, action: Callable[[], T]) -> T:
        """Run `action` on every rank, and return this rank's result. Collective.

        Raises:
            UserError: it was raised on any rank; on every one.
        """
        failure = ""
        results: list[T] = []
        try:
            results.append(action())
        except UserError as error:
            failure = f"{error}"
        failures = [text for text in self.gather(failure) if text]
        if failures:
            raise UserError(failures[0])
        return results[0]

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, in rank order. Collective. The value must pickle."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def wait_for_all(self) -> None:
        """Wait until every rank is here, however long that takes. Collective.

        For what takes some ranks minutes or hours; a barrier ends the run after the process group's
        timeout. The ranks count themselves in the store that they met by, which needs no further
        connections.

        Raises:
            RuntimeError: the store is gone, and with it the rank or launcher that held it.
        """
        if self.size == 1:
            return
        store = _get_default_store()
        key = f"alphadecay/here/{next(_meetings)}"
        here = store.add(key, 1)
        pause = 0.01
        while here < self.size:
            time.sleep(pause)
            pause = min(2 * pause, _LOOK_AGAIN)
            here = store.add(key, 0)

    def barrier(self) -> None:
        """Wait for every rank. Collective."""
        dist.barrier(group=self.control)


def start(timeout_minutes: float) -> World:
    """Start the process group: NCCL where there is a GPU for this rank, else gloo.

    Raises:
        UserError: a launcher's variable, GPU or port that cannot be used.
    """
    rank, local_rank, size = environment()
    if alone():
        _single_process()
    meeting_place()
    raise_open_file_limit()
    cuda = uses_cuda()
    if cuda and local_rank >= torch.cuda.device_count():
        gpus = torch.cuda.device_count()
        raise UserError(
            f"rank {rank} has no GPU: local rank {local_rank}, {gpus} GPUs on this node; start "
            "fewer ranks per node"
        )
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    limit = timedelta(minutes=timeout_minutes)
    _meet("nccl" if cuda else "gloo", limit)
    control = dist.new_group(backend="gloo", timeout=limit)
    return World(rank, local_rank, size, device, control)


def _meet(backend: str, limit: timedelta) -> None:
    import deepspeed

    # Its shared-memory all-reduce for CPU ranks is compiled at first use; gloo serves and needs no
    # compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    try:
        deepspeed.init_distributed(
            dist_backend=backend, timeout=limit, dist_init_required=True, verbose=False
        )
    except dist.DistNetworkError as error:
        if "EADDRINUSE" not in str(error):
            raise
        raise UserError(
            f"MASTER_PORT is {os.environ['MASTER_PORT']}, and another program listens there on "
            f"{os.environ['MASTER_ADDR']}, perhaps another run; give this one a port of its own: "
            "deepspeed --master_port PORT, torchrun --standalone, or another MASTER_PORT"
        ) from None


def _single_process() -> None:
    """Make `python train/pretrain.py` a world of one."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(
        RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
