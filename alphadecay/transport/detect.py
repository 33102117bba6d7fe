"""Finds the transport, the bare model and the optimizer from what the user holds: a module, a DDP
wrapper or a DeepSpeed engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from alphadecay.transport.base import Transport
from alphadecay.transport.replicated import ReplicatedTransport
from alphadecay.transport.sharded import ShardedTransport
from alphadecay.transport.zero import ZeroLayout, is_partitioned

# How an mpu says how many ranks share a matrix.
_SLICES = ("get_tensor_model_parallel_world_size", "get_model_parallel_world_size")


@dataclass(frozen=True)
class Target:
    """What AlphaDecay works on.

    Args:
        model: the bare module.
        transport: how its weights reach their owners.
        engine: the DeepSpeed engine, or None.
        optimizer: the optimizer whose step() updates the weights (DeepSpeed's wrapper stays in the
            engine), or None.
    """

    model: nn.Module
    transport: Transport
    engine: Any | None
    optimizer: Any | None


def detect(model: Any) -> Target:
    """Looks at `model` by what it offers, so that DeepSpeed need not be importable.

    Raises:
        TypeError: neither a module nor an engine.
        ValueError: sharding this version cannot see; the message says which.
    """
    if hasattr(model, "zero_optimization_stage") and hasattr(model, "module"):
        return _engine_target(model)
    model = getattr(model, "_orig_mod", model)  # torch.compile's wrapper hides the others
    if isinstance(model, nn.DataParallel):  # one process, one copy of the weights
        model = model.module
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"AlphaDecay takes a torch module or a DeepSpeed engine, got {type(model).__name__}"
        )
    if isinstance(model, DistributedDataParallel):
        return Target(model.module, ReplicatedTransport(model.process_group), None, None)
    if any(is_partitioned(p) for p in model.parameters()):
        raise ValueError(
            "the model's weights are partitioned by ZeRO-3: pass the engine, AlphaDecay(engine, "
            "...), not the module"
        )
    placed = [p for p in model.parameters() if hasattr(p, "placements")]
    if placed:
        # DTensor takes a second to import, and most models have none
        from alphadecay.transport.fsdp2 import fsdp2_transport

        return Target(model, fsdp2_transport(placed), None, None)
    return Target(model, ReplicatedTransport(None), None, None)


def _engine_target(engine: Any) -> Target:
    wrapper = engine.optimizer
    if wrapper is None:
        raise ValueError(
            "the DeepSpeed engine has no optimizer; pass optimizer=AdamW(...) to "
            "deepspeed.initialize first"
        )
    _refuse(engine)
    basic = getattr(engine, "basic_optimizer", None) or wrapper
    partitioned = [p for p in engine.module.parameters() if is_partitioned(p)]
    if partitioned:
        group = partitioned[0].ds_process_group
        return Target(engine.module, ShardedTransport(ZeroLayout(), group), engine, basic)
    group = getattr(wrapper, "dp_process_group", None) or (
        dist.group.WORLD if dist.is_initialized() else None
    )
    return Target(engine.module, ReplicatedTransport(group), engine, basic)


def refuse_configuration(ds_config: Mapping[str, Any]) -> None:
    """The same, told from a DeepSpeed configuration before there is an engine.

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


def _refuse(engine: Any) -> None:
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
    """Set-ups in which weights are out of sight or a step bypasses the optimizer, each with the way
    out.

    Raises:
        ValueError: the first that is found.
    """
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
