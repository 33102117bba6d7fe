"""What every rank waits for, and how long."""

from __future__ import annotations

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
    groups = [
        dist.new_group(backend="gloo", timeout=timeout) for timeout in (LIMIT, timedelta(hours=1))
    ]
    world = World(rank, rank, 2, torch.device("cpu"), *groups)
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
