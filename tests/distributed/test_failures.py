"""A rank that dies during a refresh: the others end at once, with an error that names the collective."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from alphadecay import AdamW, AlphaDecay
from tests.distributed.test_replicas_and_fsdp2 import Net

SURVIVORS = (0, 2)


def dying_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3, timeout=timedelta(seconds=60))
    model = fully_shard(Net(), mesh=init_device_mesh("cpu", (3,)))
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        decay.refresh()
    except RuntimeError as error:
        (Path(folder) / f"{rank}.error").write_text(str(error))
    os._exit(0)


def test_the_others_end_with_an_error_that_names_the_collective(tmp_path: Path) -> None:
    context = mp.start_processes(dying_rank, (str(tmp_path),), 3, join=False, start_method="spawn")
    for process in context.processes:
        process.join()
    codes = [process.exitcode for process in context.processes]
    assert codes == [0, -signal.SIGKILL, 0]
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
