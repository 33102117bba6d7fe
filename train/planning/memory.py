"""Predicts what a rank holds between and during steps, in bytes.

Shapes and the DeepSpeed configuration decide it.

P parameters, W ranks. Under ZeRO 1 and 2 a rank owns an equal share of the flattened group, under 3
a slice of every parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import nn

from train.config import TrainConfig
from train.engines.build import EnginePlan
from train.engines.ds_config import computes_in_bf16, zero_stage
from train.models import spec_of

_ALIGNMENT = 2  # elements; DeepSpeed pads the flattened group to a multiple of it per rank
_FLOAT32 = 4


@dataclass(frozen=True)
class Sharding:
    """The matters of a resolved DeepSpeed configuration that decide memory.

    Args:
        stage: of ZeRO.
        ranks: that share the model.
        itemsize: bytes of a weight, 2 in bf16.
        accumulation: bytes of a gradient where it is summed.
        offload_optimizer: float32 weights, moments and their gradients are in the host's memory.
        offload_parameters: and so are the slices of ZeRO-3.
        live_parameters: weights that ZeRO-3 has gathered at most: those in use, fetched ahead or
            about to be used again; units such as a decoder layer are within it.
        fsdp2: FSDP2 shards, not ZeRO: float32 weights like ZeRO-3's slices, and no masters.
        whole_gradients: FSDP2 keeps them whole until a step's last micro batch.
    """

    stage: int
    ranks: int
    itemsize: int
    accumulation: int
    offload_optimizer: bool
    offload_parameters: bool
    live_parameters: int = 0
    fsdp2: bool = False
    whole_gradients: bool = False

    @property
    def name(self) -> str:
        """What spreads the model, for a person."""
        return "FSDP2" if self.fsdp2 else f"ZeRO-{self.stage}"


@dataclass(frozen=True)
class Memory:
    """The bytes on one rank.

    Args:
        weights: what the model computes with.
        gradients: what is kept until the step.
        optimizer: float32 masters and the two moments.
    """

    weights: int
    gradients: int
    optimizer: int


def sharding_of(c: TrainConfig, plan: EnginePlan, model: nn.Module, ranks: int) -> Sharding:
    """Return what an engine's plan means for memory.

    Args:
        model: for the units that FSDP2 gathers.
    """
    if plan.ds_config is not None:
        return zero_sharding(plan.ds_config, ranks)
    return Sharding(
        stage=3,
        ranks=c.engine.shard or ranks,
        itemsize=2 if plan.bf16 else _FLOAT32,
        accumulation=_FLOAT32,
        offload_optimizer=c.engine.cpu_offload,
        offload_parameters=c.engine.cpu_offload,
        live_parameters=_gathered_units(c, model),
        fsdp2=True,
        whole_gradients=plan.accumulation > 1,
    )


def _gathered_units(c: TrainConfig, model: nn.Module) -> int:
    """Return the elements of the two largest units: one is in use, one fetched ahead."""
    spec = spec_of(c.model)
    units = [*spec.layers(model), *spec.ends(model)]
    sizes = sorted(sum(p.numel() for p in unit.parameters()) for unit in units)
    return sum(sizes[-2:] if c.engine.reshard_after_forward else sizes)


def zero_sharding(ds_config: Mapping[str, Any], ranks: int) -> Sharding:
    """Return what a resolved DeepSpeed configuration means for memory."""
    zero = ds_config.get("zero_optimization", {})
    stage = zero_stage(ds_config)
    bf16 = computes_in_bf16(ds_config)
    wide = ds_config.get("data_types", {}).get("grad_accum_dtype") == "fp32"
    offloaded = [
        (zero.get(key) or {}).get("device", "none") != "none"
        for key in ("offload_optimizer", "offload_param")
    ]
    return Sharding(
        stage=stage,
        ranks=ranks,
        itemsize=2 if bf16 else _FLOAT32,
        accumulation=2 if bf16 and not wide else _FLOAT32,
        offload_optimizer=offloaded[0],
        offload_parameters=offloaded[1],
        live_parameters=int(zero.get("stage3_max_live_parameters", 10**9)) if stage == 3 else 0,
    )


def predict_memory(shapes: Sequence[Sequence[int]], sharding: Sharding) -> Memory:
    """Return what one rank holds; a test compares it with the tensors of real engines.

    Args:
        shapes: of all parameters, tied ones once.
        sharding: how they are spread.
    """
    elements = sum(prod(shape) for shape in shapes)
    if sharding.fsdp2:
        share = sum(-(-shape[0] // sharding.ranks) * prod(shape[1:]) for shape in shapes)
        whole = elements if sharding.whole_gradients else 0
        return Memory(_FLOAT32 * share, _FLOAT32 * (share + whole), 2 * _FLOAT32 * share)
    if sharding.stage == 3:
        share = sum(-(-prod(shape) // sharding.ranks) for shape in shapes)
    elif sharding.stage:
        unit = _ALIGNMENT * sharding.ranks
        share = -(-elements // unit) * _ALIGNMENT
    else:
        share = elements
    # else the weights are the masters
    masters = _FLOAT32 if sharding.stage or sharding.itemsize < _FLOAT32 else 0
    summed = elements if sharding.stage < 2 else share
    gradients = sharding.accumulation * summed
    if sharding.stage == 1 and sharding.itemsize < sharding.accumulation:
        # its float32 sums are beside the gradients of the backward pass
        gradients += sharding.itemsize * elements
    return Memory(
        weights=sharding.itemsize * (share if sharding.stage == 3 else elements),
        gradients=gradients,
        optimizer=(masters + 2 * _FLOAT32) * share,
    )


def snapshot_bytes(held: Memory, sharding: Sharding) -> int:
    """Return the most that a rank writes of a checkpoint, which a save copies to the host's memory.

    Under ZeRO 0 to 2 the first rank writes the weights, too.
    """
    weights = 0 if sharding.stage == 3 and not sharding.fsdp2 else held.weights
    return weights + held.optimizer
