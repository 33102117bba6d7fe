"""What every rank waits for, and how long."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from tests.distributed.harness import run_ranks
from train.cluster.distributed import World

LIMIT = timedelta(seconds=2)


def wait_for_rank_0(rank: int, folder: Path, patient: bool) -> str:
    """Rank 0 is at it until the other has lost its patience, or, where it must not, for longer than
    the limit.
    """
    control = dist.new_group(backend="gloo", timeout=LIMIT)
    world = World(rank, rank, 2, torch.device("cpu"), control)
    gone = folder / "gone"

    def action() -> str:
        if patient:
            time.sleep(2 * LIMIT.total_seconds())
        else:
            while not gone.exists():
                time.sleep(0.05)
        return "done"

    try:
        return world.run_on_main(action, patient=patient)
    except RuntimeError as error:
        return f"{error}"
    finally:
        gone.touch()


def test_a_rank_gives_up_at_the_limit_but_for_what_may_take_hours(tmp_path: Path) -> None:
    assert run_ranks(2, wait_for_rank_0, tmp_path, True) == ["done", "done"]
    (tmp_path / "gone").unlink()
    _, message = run_ranks(2, wait_for_rank_0, tmp_path, False)
    assert "timed out" in message.lower()


def meet_twice(rank: int, folder: Path) -> list[bool]:
    """Every rank waits for the other, each once the later one, for longer than the limit."""
    control = dist.new_group(backend="gloo", timeout=LIMIT)
    world = World(rank, rank, 2, torch.device("cpu"), control)
    seen = []
    for late in (0, 1):
        if rank == late:
            time.sleep(1.5 * LIMIT.total_seconds())
            (folder / f"{late}").touch()
        world.wait_for_all()
        seen.append((folder / f"{late}").exists())
    return seen


def test_all_wait_for_the_last_beyond_the_limit(tmp_path: Path) -> None:
    assert run_ranks(2, meet_twice, tmp_path) == [[True, True], [True, True]]


def test_ranks_that_wait_for_hours_cost_no_connections() -> None:
    """At 512 ranks a second mesh would not fit the usual limit of 1,024 open files."""
    taken = run_ranks(2, descriptors_of_a_wait)
    assert taken == [0, 0]


def descriptors_of_a_wait(rank: int) -> int:
    """How many descriptors are held after a wait that were not before it."""
    world = World(rank, rank, 2, torch.device("cpu"))
    dist.barrier()
    before = len(os.listdir("/proc/self/fd"))
    world.wait_for_all()
    return len(os.listdir("/proc/self/fd")) - before
