"""How tests wrap a model on real ranks, and see its whole weights again."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard
from torch.nn.parallel import DistributedDataParallel


def wrap(model: nn.Module, kind: str) -> nn.Module:
    """Shard or replicate a model on all ranks: ddp, fsdp2, fsdp2-columns or hsdp."""
    world = torch.distributed.get_world_size()
    if kind == "ddp":
        return DistributedDataParallel(model)
    if kind == "hsdp":
        mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("replicate", "shard"))
        return fully_shard(model, mesh=mesh)
    mesh = init_device_mesh("cpu", (world,))
    by_columns = (
        (lambda p: Shard(1) if p.dim() == 2 and p.shape[1] % world == 0 else Shard(0))
        if kind == "fsdp2-columns"
        else None
    )
    return fully_shard(model, mesh=mesh, shard_placement_fn=by_columns)


def gathered(engine: Any) -> dict[str, torch.Tensor]:
    """Return the whole weights of an engine. Collective under ZeRO-3."""
    import deepspeed

    weights = {}
    for name, parameter in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter]):
            weights[name] = parameter.detach().clone()
    return weights
