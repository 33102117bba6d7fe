"""Says how an engine's plan spreads a model over ranks, which decides what a rank holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from alphadecay.inspect.plan.memory import FLOAT32, Spread
from train.config import OptimConfig, TrainConfig
from train.engines.build import EnginePlan
from train.engines.ds_config import computes_in_bf16, zero_stage
from train.models import spec_of


def spread_of(c: TrainConfig, plan: EnginePlan, model: nn.Module, ranks: int) -> Spread:
    """Return what an engine's plan means for memory.

    Args:
        model: for the units that FSDP2 gathers.
    """
    moments = moments_of(c.optim)
    if plan.ds_config is not None:
        return replace(zero_spread(plan.ds_config, ranks), moments=moments)
    return Spread(
        stage=3,
        ranks=c.engine.shard or ranks,
        itemsize=2 if plan.bf16 else FLOAT32,
        accumulation=FLOAT32,
        offload_optimizer=c.engine.cpu_offload,
        offload_parameters=c.engine.cpu_offload,
        live_parameters=_gathered_units(c, model),
        fsdp2=True,
        moments=moments,
        whole_gradients=plan.accumulation > 1,
    )


def moments_of(optim: OptimConfig) -> int:
    """Return how many numbers are kept of each weight, beside it: moments, and its average."""
    moments = 1 if optim.name in ("sgdw", "sgd") else 2
    return moments + (optim.ema > 0)


def _gathered_units(c: TrainConfig, model: nn.Module) -> int:
    """Return the elements of the two largest units: one is in use, one fetched ahead."""
    spec = spec_of(c.model)
    units = [*spec.layers(model), *spec.ends(model)]
    sizes = sorted(sum(p.numel() for p in unit.parameters()) for unit in units)
    return sum(sizes[-2:] if c.engine.reshard_after_forward else sizes)


def zero_spread(ds_config: Mapping[str, Any], ranks: int) -> Spread:
    """Return what a resolved DeepSpeed configuration means for memory."""
    zero = ds_config.get("zero_optimization", {})
    stage = zero_stage(ds_config)
    bf16 = computes_in_bf16(ds_config)
    wide = ds_config.get("data_types", {}).get("grad_accum_dtype") == "fp32"
    offloaded = [
        (zero.get(key) or {}).get("device", "none") != "none"
        for key in ("offload_optimizer", "offload_param")
    ]
    return Spread(
        stage=stage,
        ranks=ranks,
        itemsize=2 if bf16 else FLOAT32,
        accumulation=2 if bf16 and not wide else FLOAT32,
        offload_optimizer=offloaded[0],
        offload_parameters=offloaded[1],
        live_parameters=int(zero.get("stage3_max_live_parameters", 10**9)) if stage == 3 else 0,
    )
