"""Weights that ZeRO-3 has partitioned: one all_to_all_single per round brings one matrix to each owner.

A parameter's `ds_tensor` is this rank's slice of the row-major, padded flat weight: rank i holds the elements
[i·P, (i+1)·P), P = ds_tensor.ds_numel = ceil(numel / world size). What lies past numel is uninitialised and never sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alphadecay.modules import WeightModule
from alphadecay.transport.base import Rounds, Transport


def is_partitioned(parameter: nn.Parameter) -> bool:
    """True for a parameter that ZeRO-3 manages."""
    return hasattr(parameter, "ds_tensor")


class ZeroTransport(Transport):
    """Moves `ds_tensor` slices; traffic in total is the weights once, extra memory one matrix per rank."""

    def deliver(self, rounds: Rounds) -> Iterator[tuple[WeightModule, Tensor]]:
        wire_dtype = _wire_dtype([m for row in rounds for m in row if m is not None])
        for row in rounds:
            received = self._exchange(row, wire_dtype)
            module = row[self.rank]
            if module is not None:
                yield module, module.matrix(received)

    def _exchange(self, row: Sequence[WeightModule | None], wire_dtype: torch.dtype) -> Tensor:
        """Collective: one round. Returns the flat elements of this rank's module, in order, or an empty tensor."""
        pieces = [self._local_piece(module) for module in row]
        send = torch.cat([piece.to(device=self.device, dtype=wire_dtype) for piece in pieces])
        sizes_in = [piece.numel() for piece in pieces]
        mine = row[self.rank]
        sizes_out = [0] * self.world_size
        if mine is not None:
            sizes_out = [stop - start for start, stop in (self._overlap(mine, rank) for rank in range(self.world_size))]
        received = torch.empty(sum(sizes_out), dtype=wire_dtype, device=self.device)
        dist.all_to_all_single(received, send, sizes_out, sizes_in, group=self.group)
        return received

    def _overlap(self, module: WeightModule, rank: int) -> tuple[int, int]:
        """The part of the module's flat range that `rank` holds, as [start, stop) of the parameter; empty where stop == start."""
        shard = _shard(module.parameter)
        start, stop = module.flat_range
        low = max(start, rank * shard.ds_numel)
        return low, max(low, min(stop, (rank + 1) * shard.ds_numel))

    def _local_piece(self, module: WeightModule | None) -> Tensor:
        if module is None:
            return torch.empty(0)
        start, stop = self._overlap(module, self.rank)
        shard = _shard(module.parameter)
        return shard.detach().reshape(-1)[start - self.rank * shard.ds_numel : stop - self.rank * shard.ds_numel]


def _shard(parameter: nn.Parameter) -> Any:
    return parameter.ds_tensor  # type: ignore[attr-defined]


def _wire_dtype(modules: Sequence[WeightModule]) -> torch.dtype:
    """The weights' own dtype where they share one (bf16 travels as bf16), else float32."""
    dtypes = {_shard(module.parameter).dtype for module in modules}
    return dtypes.pop() if len(dtypes) == 1 else torch.float32
