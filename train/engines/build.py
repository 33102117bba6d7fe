"""Chooses the engine, and builds it.

What an engine is going to be is known before it is built: checkpoints are looked for by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from train.config import TrainConfig
from train.config.run import AUTO
from train.engines.ds_config import computes_in_bf16, load_ds_config, zero_stage
from train.engines.precision import resolve_precision
from train.engines.protocol import Engine
from train.errors import UserError
from train.system.device import uses_cuda

Kind = Literal["deepspeed", "fsdp2"]
_WHY_DEEPSPEED = (
    "engine.kind auto takes deepspeed: at 60M on one NVIDIA H200 ZeRO-1 reached 1,235,689 "
    "tokens/s, FSDP2 1,194,644 and ZeRO-3 1,072,114 (tests/gpu/README.md); a micro step of 12 "
    "layers on a CPU rank took 1.08 times the bare model's process time under ZeRO-1, 1.49 times "
    "under FSDP2 (tests/bench/results/host-cpu.json)"
)


@dataclass(frozen=True)
class EnginePlan:
    """An engine that has not been built.

    Args:
        kind: which.
        accumulation: micro batches of a step.
        ds_config: DeepSpeed's resolved configuration; None under another engine.
        layout: how it cuts the state up; a part of a checkpoint's identity.
        bf16: whether it computes in bf16.
    """

    kind: Kind
    accumulation: int
    ds_config: dict[str, Any] | None
    layout: dict[str, Any]
    bf16: bool

    @property
    def keeps_masters(self) -> bool:
        """True where the optimizer keeps float32 weights beside the model's own."""
        return self.ds_config is not None and (self.bf16 or zero_stage(self.ds_config) > 0)

    @property
    def itemsize(self) -> int:
        """Bytes of one of the model's own weights between steps."""
        return 2 if self.bf16 and self.ds_config is not None else 4


def engine_kind(config: TrainConfig) -> Kind:
    """Return what engine.kind means: auto is DeepSpeed, for the reason of `why_engine`."""
    return "fsdp2" if config.engine.kind == "fsdp2" else "deepspeed"


def why_engine(config: TrainConfig) -> str:
    """Return which engine auto took and why, for a person; empty where engine.kind is given."""
    return _WHY_DEEPSPEED if config.engine.kind == AUTO else ""


def leaves_sharding_open(config: TrainConfig) -> bool:
    """Return whether it is to be chosen which of ds_configs shards the model."""
    return engine_kind(config) == "deepspeed" and config.deepspeed.config == AUTO


def plan_engine(config: TrainConfig, accumulation: int, world_size: int) -> EnginePlan:
    """Resolve the engine's settings.

    Raises:
        UserError: they cannot work, or contradict the recipe.
    """
    if engine_kind(config) == "fsdp2":
        from train.engines.fsdp2 import check_fsdp2

        check_fsdp2(config, world_size, uses_cuda())
        bf16 = resolve_precision(config.run.precision) == "bf16"
        return EnginePlan("fsdp2", accumulation, None, {"engine": "fsdp2"}, bf16)
    ds_config = load_ds_config(config, accumulation, world_size)
    _check_average(config, ds_config)
    layout = {"engine": "deepspeed", "zero_stage": zero_stage(ds_config)}
    return EnginePlan("deepspeed", accumulation, ds_config, layout, computes_in_bf16(ds_config))


def _check_average(config: TrainConfig, ds_config: dict[str, Any]) -> None:
    offloaded = ds_config.get("zero_optimization", {}).get("offload_optimizer") or {}
    if config.optim.ema and offloaded.get("device") == "nvme":
        raise UserError(
            f"optim.ema is {config.optim.ema:g}, and {config.deepspeed.config} keeps the optimizer "
            "on an NVMe disk, where there is no average of the weights; set --optim.ema 0, or "
            "offload it to the cpu"
        )


def build_engine(
    config: TrainConfig, plan: EnginePlan, device: torch.device, universal: bool = False
) -> Engine:
    """Build what was planned. Collective.

    Args:
        universal: DeepSpeed's own loader will read a checkpoint in its universal form.
    """
    if plan.ds_config is None:
        from train.engines import fsdp2

        return fsdp2.build_engine(config, plan.accumulation, device)
    from train.engines import deepspeed

    ds_config = dict(plan.ds_config)
    if universal:
        ds_config["checkpoint"] = {**ds_config.get("checkpoint", {}), "load_universal": True}
    return deepspeed.build_engine(config, ds_config, device)
