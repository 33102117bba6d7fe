"""Runs a function on real gloo ranks, each a process of its own, and brings back what every rank
returned.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_ranks(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """`function(rank, *args)` on `world_size` ranks of one gloo group; its results in rank order.

    The function must be importable (module level). A rank's exception is raised here with its
    traceback.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = start_processes(_rank, (world_size, folder, function, args), world_size)
        try:
            while not context.join():
                pass
        except mp.ProcessExitedException as error:
            errors = [path.read_text() for path in sorted(Path(folder).glob("*.error"))]
            raise AssertionError("\n".join(errors) or str(error)) from None
        return [
            torch.load(Path(folder) / f"{rank}.pt", weights_only=False)
            for rank in range(world_size)
        ]


def start_processes(function: Callable[..., Any], args: tuple[Any, ...], world_size: int) -> Any:
    """`function(rank, *args)` in `world_size` processes, not yet joined."""
    # Forked, from a server that runs nothing, so that no thread of this process is lost half-way.
    mp.get_context("forkserver").set_forkserver_preload(["tests.distributed.preload"])
    return mp.start_processes(function, args, world_size, join=False, start_method="forkserver")


def set_environment(rank: int, world_size: int) -> None:
    """What a launcher would say."""
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
    rank: int, world_size: int, folder: str, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    set_environment(rank, world_size)
    code = 0
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/meet",
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=120),
        )
        result = function(rank, *args)
        torch.save(result, Path(folder) / f"{rank}.pt")
        dist.barrier()
    except BaseException:
        (Path(folder) / f"{rank}.error").write_text(f"rank {rank}:\n{traceback.format_exc()}")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # gloo's threads abort a normal exit now and then (pytorch#190489)


def init_deepspeed() -> None:
    """DeepSpeed on the group that is there, without its compiled CPU kernel."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
