"""Runs a function on real gloo ranks, each a process of its own, and brings back what every rank
returned.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.forked import fork, wait_for_ranks

# Seconds: a collective that waits longer has failed; so has a whole job.
COLLECTIVE = 120
DEADLINE = 600


def run_ranks(
    world_size: int, function: Callable[..., Any], *args: Any, deadline: float = DEADLINE
) -> list[Any]:
    """Run `function(rank, *args)` on `world_size` ranks of one gloo group; return their results.

    The function must be importable (module level).

    Raises:
        AssertionError: a rank raised, died or did not end within `deadline` seconds; with the
            traceback of every rank that has one.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = (world_size, folder, deadline, function, args)
        processes = start_processes(_rank, job, world_size)
        # the ranks end themselves at the deadline, each with its stack
        if wait_for_ranks(processes, deadline + 30):
            said = [_end(rank, process, folder) for rank, process in enumerate(processes)]
            raise AssertionError("\n".join(filter(None, said)))
        return [
            torch.load(Path(folder) / f"{rank}.pt", weights_only=False)
            for rank in range(world_size)
        ]


def start_processes(
    function: Callable[..., Any], args: tuple[Any, ...], world_size: int
) -> list[BaseProcess]:
    """Start `function(rank, *args)` in `world_size` processes, not yet joined."""
    return [fork(function, rank, *args) for rank in range(world_size)]


def _end(rank: int, process: BaseProcess, folder: str) -> str:
    """Return what a rank said, or how it ended; nothing of one that ended well."""
    path = Path(folder) / f"{rank}.error"
    said = path.read_text() if path.exists() else ""
    if said or not process.exitcode:
        return said
    return f"rank {rank} ended with code {process.exitcode}"


def set_environment(rank: int, world_size: int) -> None:
    """Set what a launcher would say."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        DS_ACCELERATOR="cpu",
        LOCAL_SIZE=str(world_size),
    )
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "0")  # unused: the ranks meet in a file
    torch.set_num_threads(1)


def _rank(
    rank: int,
    world_size: int,
    folder: str,
    deadline: float,
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    set_environment(rank, world_size)
    place = Path(folder)
    code = 0
    with (place / f"{rank}.error").open("w") as error:
        faulthandler.dump_traceback_later(deadline, exit=True, file=error)
        try:
            dist.init_process_group(
                "gloo",
                init_method=f"file://{folder}/meet",
                rank=rank,
                world_size=world_size,
                timeout=timedelta(seconds=COLLECTIVE),
            )
            result = function(rank, *args)
            torch.save(result, place / f"{rank}.pt")
            dist.barrier()
        except BaseException:
            error.write(f"rank {rank}:\n{traceback.format_exc()}")
            code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # gloo's threads abort a normal exit now and then (pytorch#190489)


def init_deepspeed() -> None:
    """Start DeepSpeed on the group that is there, without its compiled CPU kernel."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
