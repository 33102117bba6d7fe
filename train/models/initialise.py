"""Initial weights that are the same however the model is sharded."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor


def initialise(module: nn.Module, std: float, seed: int) -> None:
    """Fill in normal weights and gains of one, each parameter from a generator of its own.

    Under zero.Init transformers' own initialisation sees empty parameters and leaves torch's
    defaults. Collective there.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            with _Gathered(parameter) as writes:
                if writes:
                    _fill(parameter, name, std, seed)


class _Gathered:
    """Holds the parameter whole on rank 0 and writes it back to its owners at the end.

    Entering gives True on ranks that are to write.
    """

    def __init__(self, parameter: nn.Parameter) -> None:
        self._partitioned = hasattr(parameter, "ds_tensor")
        self._context: AbstractContextManager[Any] = nullcontext()
        if self._partitioned:
            import deepspeed

            self._context = deepspeed.zero.GatheredParameters([parameter], modifier_rank=0)

    def __enter__(self) -> bool:
        self._context.__enter__()
        return not self._partitioned or torch.distributed.get_rank() == 0

    def __exit__(self, *exc: Any) -> None:
        self._context.__exit__(*exc)


def _fill(parameter: nn.Parameter, name: str, std: float, seed: int) -> None:
    if parameter.dim() < 2:
        parameter.fill_(1.0)
        return
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    drawn = torch.randn(parameter.shape, generator=generator) * std
    if isinstance(parameter, DTensor):
        # Every rank has drawn the whole weight, and keeps its shard: nothing is sent.
        mesh, placements = parameter.device_mesh, parameter.placements
        shard = distribute_tensor(drawn, mesh, placements, src_data_rank=None)
        parameter.to_local().copy_(shard.to_local())
    else:
        parameter.copy_(drawn)
