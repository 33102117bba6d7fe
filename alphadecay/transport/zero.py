"""Weights that ZeRO-3 has partitioned.

A parameter's `ds_tensor` is this rank's slice of the row-major, padded flat weight: rank i holds
the elements [i·P, (i+1)·P), P = ds_tensor.ds_numel = ceil(numel / world size). What lies past numel
is uninitialised and never sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from alphadecay.modules import WeightModule
from alphadecay.transport.sharded import Layout


def is_partitioned(parameter: nn.Parameter) -> bool:
    """True for a parameter that ZeRO-3 manages."""
    return hasattr(parameter, "ds_tensor")


class ZeroLayout(Layout):
    """Contiguous slices of the flat weight."""

    def is_sharded(self, module: WeightModule) -> bool:
        return is_partitioned(module.parameter)

    def piece(self, module: WeightModule, shard: int) -> Tensor:
        start, stop = self._overlap(module, shard)
        local = _slice(module)
        first = shard * local.ds_numel
        return local.detach().reshape(-1)[start - first : stop - first]

    def size(self, module: WeightModule, shard: int) -> int:
        start, stop = self._overlap(module, shard)
        return stop - start

    def assemble(self, module: WeightModule, received: Tensor, sizes: Sequence[int]) -> Tensor:
        return received

    def dtype(self, module: WeightModule) -> torch.dtype:
        return _slice(module).dtype

    def _overlap(self, module: WeightModule, shard: int) -> tuple[int, int]:
        """The part of the module's flat range that a rank holds, as [start, stop) of the parameter;
        empty where stop == start.
        """
        size = _slice(module).ds_numel
        start, stop = module.flat_range
        low = max(start, shard * size)
        high = max(low, min(stop, (shard + 1) * size))
        return (low, high) if high > low else (shard * size, shard * size)


def _slice(module: WeightModule) -> Any:
    return module.parameter.ds_tensor  # type: ignore[attr-defined]
