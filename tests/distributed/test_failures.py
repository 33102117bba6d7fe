"""A rank that dies during a refresh: the others end within the group's timeout, with an error that
names the collective.
"""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from alphadecay import AdamW, AlphaDecay, refresh
from tests.distributed.harness import set_environment, start_processes
from tests.distributed.nets import Net, zero_engine
from tests.distributed.wrapping import wrap
from tests.waiting import PATIENCE

RANKS = 3
DEAD = 1
SURVIVORS = (0, 2)
SHARDED = ("fsdp2", "zero3")
SHARES = "the all_reduce that shares every alpha"
# the dead may have had the last matrix
SENDS = ["the all_to_all_single that brings matrices to their owner ranks", SHARES]
# seconds: of the process group; for writing the error and ending
TIMEOUT = 60.0
ALLOWANCE = 10.0


def dying_rank(rank: int, folder: str, kind: str, when: str) -> None:
    set_environment(rank, RANKS)
    limit = timedelta(seconds=TIMEOUT)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS, timeout=limit
    )
    decay = decay_of(kind)
    dist.barrier()
    if rank == DEAD:
        if when == "amid":  # with its first matrix in hand
            refresh.take_gram = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[attr-defined, assignment]
            decay.refresh()
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        decay.refresh()
    except RuntimeError as error:
        (Path(folder) / f"{rank}.error").write_text(str(error))
    os._exit(0)


def decay_of(kind: str) -> AlphaDecay:
    if kind.startswith("zero"):
        return AlphaDecay(zero_engine(RANKS, int(kind[-1])))
    model = wrap(Net(), kind)
    return AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))


@pytest.mark.parametrize("when", ["before", "amid"])
@pytest.mark.parametrize("kind", ["ddp", "fsdp2", "zero2", "zero3"])
def test_the_others_end_in_time_with_an_error_that_names_the_collective(
    tmp_path: Path, kind: str, when: str
) -> None:
    processes = start_processes(dying_rank, (str(tmp_path), kind, when), RANKS)
    processes[DEAD].join(PATIENCE)
    deadline = time.monotonic() + TIMEOUT + ALLOWANCE
    for rank in SURVIVORS:
        processes[rank].join(max(0.0, deadline - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0, -signal.SIGKILL, 0]  # None: still waiting for the dead
    for rank in SURVIVORS:
        said = (tmp_path / f"{rank}.error").read_text()
        assert any(
            f"{collective} failed" in said
            for collective in (SENDS if kind in SHARDED else [SHARES])
        )
