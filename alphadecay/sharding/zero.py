"""DeepSpeed: weights whole or, at ZeRO-3, partitioned; optimizers that update flat partitions.

At ZeRO-3 a parameter's `ds_tensor` is this rank's slice of the row-major, padded flat weight: rank
i holds the elements [i·P, (i+1)·P), P = ds_tensor.ds_numel = ceil(numel / world size). What lies
past numel is uninitialised and never sent.

The optimizer gets flat float32 tensors that hold, in order, the parameters of a group or this
rank's share of them. That is known after `deepspeed.initialize`, and never by the optimizer alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alphadecay.modules import WeightModule
from alphadecay.sharding.base import Sharding, Span
from alphadecay.sharding.exchange import Exchange
from alphadecay.sharding.layout import overlap
from alphadecay.sharding.replicated import Replicated


def is_partitioned(parameter: nn.Parameter) -> bool:
    """Return True for a parameter that ZeRO-3 manages."""
    return hasattr(parameter, "ds_tensor")


def zero_sharding(engine: Any) -> Sharding:
    """Return the backend of an engine, whatever its stage."""
    parameters = list(engine.module.parameters())
    for parameter in parameters:
        if is_partitioned(parameter):
            group = parameter.ds_process_group
            return _Partitioned(engine, parameter.ds_tensor.device, group)
    group = getattr(engine.optimizer, "dp_process_group", None)
    if group is None and dist.is_initialized():
        group = dist.group.WORLD
    return _Whole(engine, parameters[0].device, group)


class _Whole(Replicated):
    """Stages 0 to 2: every rank holds the weights whole."""

    def __init__(self, engine: Any, device: torch.device, group: dist.ProcessGroup | None) -> None:
        super().__init__(device, group)
        self._engine = engine

    def spans(self, optimizer: torch.optim.Optimizer) -> Iterator[Span]:
        return engine_spans(self._engine, optimizer)


class _Partitioned(Exchange):
    """Stage 3: contiguous slices of the flat weight."""

    def __init__(self, engine: Any, device: torch.device, group: dist.ProcessGroup) -> None:
        super().__init__(device, group)
        self._engine = engine

    def spans(self, optimizer: torch.optim.Optimizer) -> Iterator[Span]:
        return engine_spans(self._engine, optimizer)

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
        return overlap(module.flat_range, _slice(module).ds_numel, shard)


def _slice(module: WeightModule) -> Any:
    return module.parameter.ds_tensor  # type: ignore[attr-defined]


def engine_spans(engine: Any, optimizer: torch.optim.Optimizer) -> Iterator[Span]:
    """Return the spans in the wrapper that DeepSpeed made of `optimizer`, told by what it holds.

    Raises:
        ValueError: a wrapper this version does not know.
    """
    wrapper = engine.optimizer
    if wrapper is optimizer:
        return _themselves(optimizer)
    for attribute, read in _READERS.items():
        if hasattr(wrapper, attribute):
            return read(wrapper)
    raise ValueError(
        f"DeepSpeed wrapped the optimizer in {type(wrapper).__name__}, whose layout this version "
        "does not know; "
        "use ZeRO stage 0 to 3 with its standard optimizers"
    )


def _themselves(optimizer: torch.optim.Optimizer) -> Iterator[Span]:
    """Stage 0 in float32: the optimizer updates the parameters."""
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            yield Span(parameter, 0, parameter.numel(), parameter, 0, index)


def _zero3(wrapper: Any) -> Iterator[Span]:
    """Stage 3: sub-group i holds this rank's slices of fp16_groups[i], one after the other, padded
    to equal length.
    """
    for index, (parameters, flat) in enumerate(
        zip(wrapper.fp16_groups, wrapper.fp32_partitioned_groups_flat, strict=True)
    ):
        group = wrapper.sub_group_to_group_id[index]
        offset = 0
        for parameter in parameters:
            size = parameter.partition_numel()
            start = min(dist.get_rank(parameter.ds_process_group) * size, parameter.ds_numel)
            length = min(size, parameter.ds_numel - start)
            yield Span(parameter, start, length, flat, offset, group)
            offset += size


def _zero12(wrapper: Any) -> Iterator[Span]:
    """Stages 1 and 2: this rank's equal share of each flattened group, in round-robin order where
    that is on.
    """
    for index, flat in enumerate(wrapper.single_partition_of_fp32_groups):
        parameters = wrapper.round_robin_bit16_groups[index]
        offsets = _offsets(parameters)
        if hasattr(wrapper, "round_robin_bit16_offsets"):  # not in the oldest DeepSpeed
            offsets = wrapper.round_robin_bit16_offsets[index]
        first = dist.get_rank(wrapper.real_dp_process_group[index]) * flat.numel()
        yield from _partition(parameters, offsets, first, flat, index)


def _bf16(wrapper: Any) -> Iterator[Span]:
    """BF16_Optimizer (stage 1 with float32 gradient accumulation): an equal share of each flattened
    group.
    """
    for index, flat in enumerate(wrapper.fp32_groups_flat_partition):
        parameters = wrapper.bf16_groups[index]
        first = dist.get_rank(wrapper.real_dp_process_group[index]) * flat.numel()
        yield from _partition(parameters, _offsets(parameters), first, flat, index)


def _fused(wrapper: Any) -> Iterator[Span]:
    """Stage 0 in 16 bits with a fused optimizer: each group flattened whole."""
    for index, flat in enumerate(wrapper.fp32_groups_flat):
        parameters = wrapper.fp16_groups[index]
        yield from _partition(parameters, _offsets(parameters), 0, flat, index)


def _unfused(wrapper: Any) -> Iterator[Span]:
    """Stage 0 in 16 bits: a float32 copy of each parameter."""
    for index, (parameters, copies) in enumerate(
        zip(wrapper.fp16_groups, wrapper.fp32_groups, strict=True)
    ):
        for parameter, copy in zip(parameters, copies, strict=True):
            yield Span(parameter, 0, parameter.numel(), copy, 0, index)


_READERS = {
    "fp32_partitioned_groups_flat": _zero3,
    "single_partition_of_fp32_groups": _zero12,
    "fp32_groups_flat_partition": _bf16,
    "fp32_groups_flat": _fused,
    "fp32_groups": _unfused,
}


def _offsets(parameters: Sequence[nn.Parameter]) -> list[int]:
    return [0, *accumulate(parameter.numel() for parameter in parameters)][:-1]


def _partition(
    parameters: Sequence[nn.Parameter],
    offsets: Sequence[int],
    first: int,
    flat: Tensor,
    group: int,
) -> Iterator[Span]:
    """Say what elements [first, first + flat.numel()) of the flattened group hold of each
    parameter.
    """
    last = first + flat.numel()
    for parameter, offset in zip(parameters, offsets, strict=True):
        low = max(first, offset)
        high = min(last, offset + parameter.numel())
        # An empty span still says that this optimizer owns the parameter, on another rank.
        start = max(0, low - offset)
        yield Span(parameter, start, max(0, high - low), flat, max(0, low - first), group)
