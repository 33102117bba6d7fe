"""Models and set-ups in which weights are out of sight or a step bypasses the optimizer: each is
refused with the way out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.parameter import UninitializedParameter

from alphadecay.modules import bare_name

# How an mpu says how many ranks share a matrix.
_SLICES = ("get_tensor_model_parallel_world_size", "get_model_parallel_world_size")
_FSDP1 = "FullyShardedDataParallel"


def refuse_model(model: nn.Module) -> None:
    """Refuse models whose weights have no values, or none that can be told apart.

    Raises:
        ValueError: the first that is found, by name.
    """
    if any(type(module).__name__ == _FSDP1 for module in model.modules()):
        raise ValueError(
            "AlphaDecay cannot work here: FSDP1 flattens the weights of many layers into one "
            "vector; shard the model with torch.distributed.fsdp.fully_shard"
        )
    for name, parameter in model.named_parameters():
        if reason := _why_not(parameter):
            raise ValueError(f"AlphaDecay cannot work here: {bare_name(name)} {reason}")


def _why_not(parameter: nn.Parameter) -> str:
    """Say why a parameter has no values; empty where it has."""
    if isinstance(parameter, UninitializedParameter):
        return "has no shape yet, as it is lazy; run the model once before AlphaDecay is made"
    if parameter.is_meta:
        return "is on the meta device and has no values; materialise the model first"
    return ""


def refuse_configuration(ds_config: Mapping[str, Any]) -> None:
    """Refuse what `refuse_engine` would, told from a DeepSpeed configuration before there is an
    engine.

    Raises:
        ValueError: the first set-up that AlphaDecay cannot work in.
    """
    zero = ds_config.get("zero_optimization", {})
    optimizer_offload = zero.get("offload_optimizer") or {}
    parameter_offload = zero.get("offload_param") or {}
    _refuse_where(
        zenflow=bool(zero.get("zenflow")),
        super_offload=bool(optimizer_offload.get("super_offload")),
        ratio=float(optimizer_offload.get("ratio", 1.0)),
        devices=[
            str(offload.get("device", "")) for offload in (optimizer_offload, parameter_offload)
        ],
        slices=int(ds_config.get("tensor_parallel", {}).get("autotp_size", 0)),
        stages=1,
    )


def refuse_engine(engine: Any) -> None:
    """Refuse a DeepSpeed engine that AlphaDecay cannot work in.

    Raises:
        ValueError: the first reason that is found.
    """
    if engine.optimizer is None:
        raise ValueError(
            "the DeepSpeed engine has no optimizer; pass optimizer=AdamW(...) to "
            "deepspeed.initialize first"
        )
    optimizer_offload = engine.zero_offload_optimizer()
    parameter_offload = engine.zero_offload_param()
    _refuse_where(
        zenflow=bool(getattr(engine, "zenflow", False)),
        super_offload=bool(getattr(optimizer_offload, "super_offload", False)),
        ratio=getattr(optimizer_offload, "ratio", 1.0),
        devices=[
            str(getattr(offload, "device", ""))
            for offload in (optimizer_offload, parameter_offload)
        ],
        slices=_slices(engine),
        stages=getattr(engine, "num_stages", 1),
    )


def _slices(engine: Any) -> int:
    """Over how many ranks each matrix is cut."""
    mpu = getattr(engine, "mpu", None)
    sizes = [getattr(mpu, name)() for name in _SLICES if hasattr(mpu, name)]
    return max([getattr(engine, "autotp_size", lambda: 0)(), *sizes])


def _refuse_where(
    zenflow: bool,
    super_offload: bool,
    ratio: float,
    devices: Sequence[str],
    slices: int,
    stages: int,
) -> None:
    refused = (
        (
            zenflow,
            "ZenFlow updates weights without the optimizer's step()",
            "take zenflow out of the configuration",
        ),
        (super_offload, "SuperOffload steps in another process", "set super_offload to false"),
        (
            ratio < 1,
            f"offload_optimizer.ratio {ratio} steps part of the weights in a copy of the optimizer",
            "set ratio to 1",
        ),
        (
            any(d.endswith("nvme") for d in devices),
            "weights or optimizer states live on NVMe",
            'set the offload device to "cpu"',
        ),
        (
            slices > 1,
            "tensor parallelism cuts the matrices into slices",
            "set autotp_size to 1, and the model-parallel size of an mpu",
        ),
        (stages > 1, "pipeline parallelism gives each rank other layers", "use one pipeline stage"),
    )
    for found, reason, way_out in refused:
        if found:
            raise ValueError(f"AlphaDecay cannot work here: {reason}; {way_out}")
