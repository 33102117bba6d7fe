"""Weights that fully_shard (FSDP2) has cut: DTensors with Shard(0) or Shard(1), alone or under
replicas (HSDP).

A shard is what torch.chunk gives: ceil(rows / W) rows, later ranks shorter or empty.
`parameter.shape` stays global. The optimizer updates the DTensors, of which each rank holds one
shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from alphadecay.modules import WeightModule, bare_name
from alphadecay.sharding.base import Span
from alphadecay.sharding.exchange import Exchange
from alphadecay.sharding.layout import block_rows, overlap

_STAGE_NAMES = ("pp", "pipe", "stage")  # how users and torchtitan call the axis


class Fsdp2(Exchange):
    """Blocks of rows or of columns."""

    def span(self, parameter: nn.Parameter, group: int) -> Span:
        if not isinstance(parameter, DTensor):
            return super().span(parameter, group)
        first, last = local_range(parameter, self.shard, self.shards)
        length = _local(parameter).numel()
        if sharded_axis(parameter) == 1:
            return Span(parameter, 0, length, parameter, 0, group, columns=(first, last))
        start = first * (parameter.numel() // max(1, parameter.shape[0]))
        return Span(parameter, start, length, parameter, 0, group)

    def is_sharded(self, module: WeightModule) -> bool:
        return isinstance(module.parameter, DTensor)

    def piece(self, module: WeightModule, shard: int) -> Tensor:
        local = _local(module.parameter).detach().reshape(-1)
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
        size = block_rows(module.parameter.shape[0], self.shards) * per_index
        start, stop = overlap(module.flat_range, size, shard)
        return start - first * per_index, stop - first * per_index


def fsdp2_sharding(named: Mapping[str, Any]) -> Fsdp2:
    """Return the backend of a model's DTensor parameters.

    Args: named: the parameters, by name.

    Raises:
        ValueError: a placement that is no row or column shard on one mesh; the message says which.
    """
    first = next(iter(named.values()))
    mesh = first.device_mesh
    _refuse_stages(mesh)
    for name, parameter in named.items():
        _check(name, parameter, mesh)
    placements = first.placements
    axis = next(i for i, placement in enumerate(placements) if isinstance(placement, Shard))
    replicas: dist.ProcessGroup | None = mesh.get_group(1 - axis) if len(placements) == 2 else None
    return Fsdp2(_local(first).device, mesh.get_group(axis), replicas)


def _refuse_stages(mesh: Any) -> None:
    """Refuse a mesh cut out of one whose ranks hold other layers: every rank needs all modules.

    Raises:
        ValueError: an axis of the whole mesh is one of pipeline stages.
    """
    if hasattr(mesh, "_get_root_mesh"):
        whole = mesh._get_root_mesh()
    else:  # torch before 2.9
        whole = device_mesh._mesh_resources.get_root_mesh(mesh)
    for axis, name in enumerate(whole.mesh_dim_names or ()):
        if name.startswith(_STAGE_NAMES) and whole.size(axis) > 1:
            raise ValueError(
                f"AlphaDecay cannot work here: mesh axis {name!r} has {whole.size(axis)} pipeline "
                "stages, which hold other layers each, and decays are one map over all; use one"
            )


def sharded_axis(parameter: Any) -> int:
    """Return the axis that a DTensor parameter is cut along."""
    return next(placement.dim for placement in parameter.placements if isinstance(placement, Shard))


def local_range(parameter: Any, shard: int, shards: int) -> tuple[int, int]:
    """Return [first, last) along the sharded axis that a rank holds."""
    length = parameter.shape[sharded_axis(parameter)]
    size = block_rows(length, shards)
    return min(shard * size, length), min((shard + 1) * size, length)


def _check(name: str, parameter: Any, mesh: Any) -> None:
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
            f"{bare_name(name)} {list(parameter.shape)} is placed as {parameter.placements}: "
            "AlphaDecay sees FSDP2's Shard(0) and Shard(1), with or without replicas, on one mesh; "
            "tensor-parallel slices are not supported, nor what stays whole beside them"
        )


def _local(parameter: Any) -> Tensor:
    """Return this rank's shard, without a collective."""
    local: Tensor = parameter.to_local()
    return local
