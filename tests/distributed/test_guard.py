"""A guarded optimizer in a plain loop: one rank's bad gradient is every rank's skipped step, under
DDP, FSDP2 and HSDP.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from alphadecay import AdamW, AlphaDecay
from tests.distributed.harness import run_ranks
from tests.distributed.nets import Net
from tests.distributed.wrapping import wrap

BAD = 2  # step


def local(tensor: Any) -> torch.Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def partly_sharded() -> Net:
    """One layer by FSDP2, the rest whole, as beside a user's own parallelism; its gradients are the
    same on all ranks.
    """
    model = Net()
    fully_shard(model.up, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    return model


def guarded_rank(rank: int, world: int, kind: str, poison: float) -> list[tuple[int, bool]]:
    """(steps skipped, whether a weight moved) after each step. Rank 1 meets a bad loss at BAD."""
    model = partly_sharded() if kind == "partly" else wrap(Net(), kind)
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    optimizer.guard()
    decay = AlphaDecay(model, optimizer, interval=2)
    history = []
    for step in range(1, 4):
        before = [local(p).detach().clone() for p in model.parameters()]
        batch = torch.randn(4, 24, generator=torch.Generator().manual_seed(10 * step + rank))
        loss = model(batch).square().mean()
        (loss * poison if (rank, step) == (1, BAD) else loss).backward()
        for p in model.parameters() if kind == "partly" else ():
            if not hasattr(p.grad, "to_local"):
                dist.all_reduce(p.grad)
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
        moved = any(
            not torch.equal(a, local(p)) for a, p in zip(before, model.parameters(), strict=True)
        )
        history.append((optimizer.skipped_steps, moved))
    assert all(bool(local(p).isfinite().all()) for p in model.parameters())
    assert not {"up.weight", "down.weight"} & set(decay.statuses)
    return history


@pytest.mark.parametrize(("world", "kind"), [(2, "ddp"), (3, "fsdp2"), (4, "hsdp"), (2, "partly")])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e25])
def test_all_ranks_skip_the_same_step(world: int, kind: str, poison: float) -> None:
    for history in run_ranks(world, guarded_rank, world, kind, poison):
        assert history == [(0, True), (1, False), (1, True)]


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
