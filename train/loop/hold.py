"""Holds output_dir for one job: two that write there would lose each other's checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from train.cluster.distributed import World
from train.errors import UserError
from train.loop.stopping.signals import StopRequests, own_stop_files
from train.system.lease import Lease
from train.system.patience import patiently

_WAY_OUT = "give this run an --output_dir of its own, or stop the other first"


@contextmanager
def output_dir_held(folder: Path, world: World, requests: StopRequests) -> Iterator[Lease]:
    """Hold the folder within, and give it back after. Collective.

    Every rank gets a lease; rank 0's is the one that was taken.

    Raises:
        UserError: another job holds it and lives, or it cannot be written. On every rank.
        Stopped: asked to stop while it was not known whether the other lives.
    """

    def say(line: str) -> None:
        print(line, flush=True)

    lease = Lease(folder, f"output_dir: {folder}", _WAY_OUT, say=say)
    world.run_on_main(lambda: _take(lease, folder, requests), patient=True)
    try:
        yield lease
    finally:
        lease.release()


def make_sure_held(lease: Lease | None) -> None:
    """Make sure that this job may say how the run stands. For rank 0.

    Raises:
        LeaseLost: another job has taken the folder over.
    """
    if lease is not None:
        with suppress(OSError):  # it cannot be told: nothing speaks against it
            lease.check()


def _take(lease: Lease, folder: Path, requests: StopRequests) -> None:
    requests.files = own_stop_files()  # the folder's own may be for the job that holds it
    try:
        with requests.interrupting():
            patiently(lease.take)
    except OSError as error:
        raise UserError(f"output_dir: cannot write to {folder}: {error.strerror}") from None
