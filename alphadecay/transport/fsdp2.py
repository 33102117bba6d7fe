"""Weights that fully_shard (FSDP2) has cut: DTensors with Shard(0) or Shard(1), alone or under
replicas (HSDP).

A shard is what torch.chunk gives: ceil(rows / W) rows, later ranks shorter or empty.
    `parameter.shape` stays global.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, Shard

from alphadecay.modules import WeightModule
from alphadecay.transport.sharded import Layout, ShardedTransport


def is_dtensor(parameter: nn.Parameter) -> bool:
    """True for a parameter that fully_shard, or another user of DTensor, has placed."""
    return isinstance(parameter, DTensor)


def sharded_axis(parameter: Any) -> int:
    """The axis that a DTensor parameter is cut along."""
    return next(placement.dim for placement in parameter.placements if isinstance(placement, Shard))


def local_range(parameter: Any, shard: int, shards: int) -> tuple[int, int]:
    """[first, last) along the sharded axis that a rank holds."""
    length = parameter.shape[sharded_axis(parameter)]
    size = -(-length // shards)
    return min(shard * size, length), min((shard + 1) * size, length)


class Fsdp2Layout(Layout):
    """Blocks of rows or of columns. Args: shards: ranks in the shard group."""

    def __init__(self, shards: int) -> None:
        self.shards = shards

    def is_sharded(self, module: WeightModule) -> bool:
        return is_dtensor(module.parameter)

    def piece(self, module: WeightModule, shard: int) -> Tensor:
        local = _local(module).reshape(-1)
        first, last = self._elements(module, shard)
        return local[first:last]

    def size(self, module: WeightModule, shard: int) -> int:
        first, last = self._elements(module, shard)
        return last - first

    def assemble(self, module: WeightModule, received: Tensor, sizes: Sequence[int]) -> Tensor:
        if sharded_axis(module.parameter) == 0:
            return received
        rows = module.rows[1] - module.rows[0]
        return torch.cat(
            [piece.view(rows, -1) for piece in received.split(list(sizes)) if piece.numel()], dim=1
        ).reshape(-1)

    def dtype(self, module: WeightModule) -> torch.dtype:
        return module.parameter.dtype

    def _elements(self, module: WeightModule, shard: int) -> tuple[int, int]:
        """[first, last) of the rank's flattened local shard that belong to the module's rows."""
        first, last = local_range(module.parameter, shard, self.shards)
        if sharded_axis(module.parameter) == 1:
            return module.rows[0] * (last - first), module.rows[1] * (last - first)
        # not parameter[0].numel(): indexing a DTensor gathers it
        per_index = prod(module.parameter.shape[1:])
        start, stop = module.flat_range
        low = max(start, first * per_index)
        high = min(stop, last * per_index)
        return (low - first * per_index, high - first * per_index) if high > low else (0, 0)


def fsdp2_transport(parameters: Sequence[Any]) -> ShardedTransport:
    """The transport of a model's DTensor parameters.

    Raises:
        ValueError: a placement that is no row or column shard on one mesh; the message says which.
    """
    mesh = parameters[0].device_mesh
    for parameter in parameters:
        _check(parameter, mesh)
    placements = parameters[0].placements
    axis = next(i for i, placement in enumerate(placements) if isinstance(placement, Shard))
    replicas: dist.ProcessGroup | None = mesh.get_group(1 - axis) if len(placements) == 2 else None
    group = mesh.get_group(axis)
    return ShardedTransport(Fsdp2Layout(dist.get_world_size(group)), group, replicas)


def _check(parameter: Any, mesh: Any) -> None:
    shards = [p for p in parameter.placements if type(p) is Shard]
    replicas = [p for p in parameter.placements if isinstance(p, Replicate)]
    plain = len(shards) == 1 and len(replicas) == len(parameter.placements) - 1 <= 1
    if (
        not plain
        or shards[0].dim > 1
        or (shards[0].dim == 1 and parameter.dim() != 2)
        or parameter.device_mesh != mesh
    ):
        raise ValueError(
            f"a weight of shape {list(parameter.shape)} is placed as {parameter.placements}: "
            "AlphaDecay sees FSDP2's Shard(0) and "
            "Shard(1), with or without replicas, on one mesh; tensor-parallel slices are not "
            "supported"
        )


def _local(module: WeightModule) -> Tensor:
    local: Tensor = module.parameter.detach().to_local()  # type: ignore[attr-defined]
    return local
