"""A rank that dies during a refresh: the others end within the group's timeout, with an error that names the collective."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from alphadecay import AdamW, AlphaDecay
from tests.distributed.harness import set_environment, start_processes
from tests.distributed.test_odd_shapes import zero_engine
from tests.distributed.test_replicas_and_fsdp2 import Net

RANKS, DEAD, SURVIVORS = 3, 1, (0, 2)
TIMEOUT, ALLOWANCE = 60.0, 10.0  # seconds: of the process group; for writing the error and ending


def dying_rank(rank: int, folder: str, kind: str) -> None:
    set_environment(rank, RANKS)
    limit = timedelta(seconds=TIMEOUT)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS, timeout=limit)
    decay = AlphaDecay(zero_engine(RANKS, 3)) if kind == "zero3" else fsdp2_decay()
    dist.barrier()
    if rank == DEAD:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        decay.refresh()
    except RuntimeError as error:
        (Path(folder) / f"{rank}.error").write_text(str(error))
    os._exit(0)


def fsdp2_decay() -> AlphaDecay:
    model = fully_shard(Net(), mesh=init_device_mesh("cpu", (RANKS,)))
    return AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))


@pytest.mark.parametrize("kind", ["fsdp2", "zero3"])
def test_the_others_end_in_time_with_an_error_that_names_the_collective(tmp_path: Path, kind: str) -> None:
    context = start_processes(dying_rank, (str(tmp_path), kind), RANKS)
    context.processes[DEAD].join()
    deadline = time.monotonic() + TIMEOUT + ALLOWANCE
    for rank in SURVIVORS:
        context.processes[rank].join(max(0.0, deadline - time.monotonic()))
    codes = [process.exitcode for process in context.processes]
    for process in context.processes:
        process.kill()
    assert codes == [0, -signal.SIGKILL, 0]  # None: still waiting for the dead
    for rank in SURVIVORS:
        assert "all_to_all_single that brings matrices to their owner ranks failed" in (tmp_path / f"{rank}.error").read_text()


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_guarded_step_changes_nothing(poison: float) -> None:
    model = Net()
    optimizer = AdamW(model.parameters(), weight_decay=0.1)
    optimizer.guard()
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.randn(4, 24)).mean().backward()
    next(iter(model.parameters())).grad[0, 0] = poison
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not optimizer.state
