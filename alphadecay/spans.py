"""Where a model's parameters lie in the tensors an optimizer updates, for every wrapper DeepSpeed
makes.

DeepSpeed gives the optimizer flat float32 tensors that hold, in order, the parameters of a group or
this rank's share of them. What is read here is bound after `deepspeed.initialize`; the optimizer
alone cannot know it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alphadecay.fragments import Span, base_weight_decay


def plain_spans(optimizer: torch.optim.Optimizer) -> Iterator[Span]:
    """One process, DDP, FSDP2, an engine without a wrapper: the optimizer updates the parameters
    themselves, or their shards.

    Raises:
        ValueError: weights too coarse for a small decay.
    """
    return _checked(_own(optimizer))


def _own(optimizer: torch.optim.Optimizer) -> Iterator[Span]:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if hasattr(parameter, "placements"):
                yield _shard(parameter, base_weight_decay(group))
            else:
                yield Span(parameter, 0, parameter.numel(), parameter, 0, base_weight_decay(group))


def _shard(parameter: Any, weight_decay: float) -> Span:
    """FSDP2: the local rows or columns of a DTensor."""
    from alphadecay.transport.fsdp2 import local_range, sharded_axis

    axis = sharded_axis(parameter)
    mesh_axis = next(i for i, placement in enumerate(parameter.placements) if placement.is_shard())
    group = parameter.device_mesh.get_group(mesh_axis)
    first, last = local_range(parameter, dist.get_rank(group), dist.get_world_size(group))
    local = parameter.to_local().numel()
    if axis == 1:
        return Span(parameter, 0, local, parameter, 0, weight_decay, columns=(first, last))
    return Span(
        parameter,
        first * (parameter.numel() // max(1, parameter.shape[0])),
        local,
        parameter,
        0,
        weight_decay,
    )


def engine_spans(engine: Any, optimizer: torch.optim.Optimizer) -> Iterator[Span]:
    """The spans of whatever wrapper DeepSpeed made around `optimizer`, told by what the wrapper
    holds.

    Raises:
        ValueError: a wrapper this version does not know, or master weights too coarse for a small
            decay.
    """
    wrapper = engine.optimizer
    if wrapper is optimizer:
        return plain_spans(optimizer)
    for attribute, read in _READERS.items():
        if hasattr(wrapper, attribute):
            return _checked(read(wrapper, optimizer))
    raise ValueError(
        f"DeepSpeed wrapped the optimizer in {type(wrapper).__name__}, whose layout this version "
        "does not know; "
        "use ZeRO stage 0 to 3 with its standard optimizers"
    )


def _checked(spans: Iterator[Span]) -> Iterator[Span]:
    """1 - lr * decay rounds to 1 in 16 bits: decay would be lost without a word."""
    for span in spans:
        if span.tensor.dtype in (torch.bfloat16, torch.float16) and span.parameter.requires_grad:
            raise ValueError(
                f"the optimizer's master weights are {span.tensor.dtype}, in which decay is lost; "
                "keep them in float32 and compute in "
                "16 bits under torch.autocast, FSDP2's MixedPrecisionPolicy or DeepSpeed's bf16"
            )
        yield span


def _zero3(wrapper: Any, optimizer: torch.optim.Optimizer) -> Iterator[Span]:
    """Stage 3: sub-group i holds this rank's slices of fp16_groups[i], one after the other, padded
    to equal length.
    """
    for index, (parameters, flat) in enumerate(
        zip(wrapper.fp16_groups, wrapper.fp32_partitioned_groups_flat, strict=True)
    ):
        group = optimizer.param_groups[wrapper.sub_group_to_group_id[index]]
        offset = 0
        for parameter in parameters:
            size = parameter.partition_numel()
            start = min(dist.get_rank(parameter.ds_process_group) * size, parameter.ds_numel)
            length = min(size, parameter.ds_numel - start)
            yield Span(parameter, start, length, flat, offset, base_weight_decay(group))
            offset += size


def _zero12(wrapper: Any, optimizer: torch.optim.Optimizer) -> Iterator[Span]:
    """Stages 1 and 2: this rank's equal share of each flattened group, in round-robin order where
    that is on.
    """
    for index, flat in enumerate(wrapper.single_partition_of_fp32_groups):
        parameters = wrapper.round_robin_bit16_groups[index]
        offsets = wrapper.round_robin_bit16_offsets[index]
        first = dist.get_rank(wrapper.real_dp_process_group[index]) * flat.numel()
        yield from _partition(
            parameters, offsets, first, flat, base_weight_decay(optimizer.param_groups[index])
        )


def _bf16(wrapper: Any, optimizer: torch.optim.Optimizer) -> Iterator[Span]:
    """BF16_Optimizer (stage 1 with float32 gradient accumulation): an equal share of each flattened
    group.
    """
    for index, flat in enumerate(wrapper.fp32_groups_flat_partition):
        parameters = wrapper.bf16_groups[index]
        first = dist.get_rank(wrapper.real_dp_process_group[index]) * flat.numel()
        yield from _partition(
            parameters,
            _offsets(parameters),
            first,
            flat,
            base_weight_decay(optimizer.param_groups[index]),
        )


def _fused(wrapper: Any, optimizer: torch.optim.Optimizer) -> Iterator[Span]:
    """Stage 0 in 16 bits with a fused optimizer: each group flattened whole."""
    for index, flat in enumerate(wrapper.fp32_groups_flat):
        parameters = wrapper.fp16_groups[index]
        yield from _partition(
            parameters,
            _offsets(parameters),
            0,
            flat,
            base_weight_decay(optimizer.param_groups[index]),
        )


def _unfused(wrapper: Any, optimizer: torch.optim.Optimizer) -> Iterator[Span]:
    """Stage 0 in 16 bits: a float32 copy of each parameter."""
    for index, (parameters, copies) in enumerate(
        zip(wrapper.fp16_groups, wrapper.fp32_groups, strict=True)
    ):
        decay = base_weight_decay(optimizer.param_groups[index])
        for parameter, copy in zip(parameters, copies, strict=True):
            yield Span(parameter, 0, parameter.numel(), copy, 0, decay)


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
    weight_decay: float,
) -> Iterator[Span]:
    """What elements [first, first + flat.numel()) of the flattened group hold of each parameter."""
    last = first + flat.numel()
    for parameter, offset in zip(parameters, offsets, strict=True):
        low = max(first, offset)
        high = min(last, offset + parameter.numel())
        # An empty span still says that this optimizer owns the parameter, on another rank.
        yield Span(
            parameter,
            max(0, low - offset),
            max(0, high - low),
            flat,
            max(0, low - first),
            weight_decay,
        )
