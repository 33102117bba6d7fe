"""Ranks that wait for one: each says where it is, and the one is named with the collective."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import torch
import torch.distributed as dist

from tests.distributed.harness import run_ranks
from tests.waiting import until
from train.cluster.distributed import World
from train.loop.hanging.command import explain
from train.loop.hanging.watch import HangWatch

RANKS = 3
LATE = 2
LIMIT = 1.0  # seconds; the group itself waits for longer


def watch(rank: int, run: Path) -> HangWatch:
    world = World(rank, rank, RANKS, torch.device("cpu"))
    folder = run / "hang" / "now"
    began = time.monotonic()
    return HangWatch(folder, world, LIMIT, lambda: began, lambda: {"step": 5, "part": "step"})


def until_told(run: Path, ranks: list[int]) -> None:
    """Wait until the ranks have written, their collectives too."""

    def told(rank: int) -> bool:
        path = run / f"hang/now/rank-{rank}.json"
        return path.exists() and bool(json.loads(path.read_text())["groups"])

    until(lambda: all(map(told, ranks)))


def come(total: torch.Tensor) -> None:
    dist.all_reduce(total)


def loiter(run: Path) -> str:
    """Stay away until all have told, and say what can be read then."""
    until_told(run, list(range(RANKS)))
    return explain(run)


def one_stays_away(rank: int, run: Path) -> str:
    total = torch.ones(1)
    come(total)
    said = ""
    with watch(rank, run):
        if rank == LATE:
            said = loiter(run)
        come(total)
    dist.barrier()
    return said


def test_a_rank_that_does_something_else_is_named(tmp_path):
    said = run_ranks(RANKS, one_stays_away, tmp_path)[LATE].splitlines()
    assert said[0].startswith(f"{tmp_path}: 3 of 3 ranks stood still")
    assert said[2].startswith(
        "Missing: rank 2 did not come to gloo:all_reduce, which ranks 0, 1 entered in "
        "tests/distributed/test_hang.py, line "
    ) and said[2].endswith("(come).")
    assert "(until)" in said[3] and "process" in said[3]
    assert not (tmp_path / "hang").exists()  # all went on


def one_is_stopped(rank: int, run: Path) -> str:
    pids: list[int] = [0] * RANKS
    dist.all_gather_object(pids, os.getpid())
    said: list[str] = []

    def look() -> None:
        until_told(run, [0, 1])
        said.append(explain(run))
        os.kill(pids[LATE], signal.SIGCONT)

    if rank == 0:
        looker = threading.Thread(target=look)
        looker.start()
    elif rank == LATE:
        os.kill(os.getpid(), signal.SIGSTOP)
    with watch(rank, run):
        come(torch.ones(1))
    if rank == 0:
        looker.join()
    return "\n".join(said)


def test_a_rank_that_is_stopped_is_the_one_that_wrote_nothing(tmp_path):
    said = run_ranks(RANKS, one_is_stopped, tmp_path)[0].splitlines()
    assert said[0].startswith(f"{tmp_path}: 2 of 3 ranks stood still")
    assert said[2].startswith(
        "Missing: rank 2 did not come to gloo:all_reduce, which ranks 0, 1 entered in "
        "tests/distributed/test_hang.py"
    )
    assert said[3].startswith("  It wrote nothing: its process was stopped")
