"""Finds the transport, the bare model and the optimizer from what the user holds: a module, a DDP wrapper or a DeepSpeed engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from alphadecay.transport.base import Transport
from alphadecay.transport.replicated import ReplicatedTransport
from alphadecay.transport.zero import ZeroTransport, is_partitioned


@dataclass(frozen=True)
class Target:
    """What AlphaDecay works on.

    Args:
        model: the bare module.
        transport: how its weights reach their owners.
        engine: the DeepSpeed engine, or None.
        optimizer: the optimizer whose step() updates the weights (DeepSpeed's wrapper stays in the engine), or None.
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
    if not isinstance(model, nn.Module):
        raise TypeError(f"AlphaDecay takes a torch module or a DeepSpeed engine, got {type(model).__name__}")
    if isinstance(model, DistributedDataParallel):
        return Target(model.module, ReplicatedTransport(model.process_group), None, None)
    if any(is_partitioned(p) for p in model.parameters()):
        raise ValueError("the model's weights are partitioned by ZeRO-3: pass the engine, AlphaDecay(engine, ...), not the module")
    if any(type(p.data).__name__ == "DTensor" or hasattr(p, "placements") for p in model.parameters()):
        raise ValueError("the model's weights are DTensors (FSDP2 or tensor parallel), which this version does not support yet")
    return Target(model, ReplicatedTransport(None), None, None)


def _engine_target(engine: Any) -> Target:
    wrapper = engine.optimizer
    if wrapper is None:
        raise ValueError("the DeepSpeed engine has no optimizer; pass optimizer=AdamW(...) to deepspeed.initialize first")
    basic = getattr(engine, "basic_optimizer", None) or wrapper
    partitioned = [p for p in engine.module.parameters() if is_partitioned(p)]
    if partitioned:
        group = partitioned[0].ds_process_group
        return Target(engine.module, ZeroTransport(group), engine, basic)
    group = getattr(wrapper, "dp_process_group", None) or (dist.group.WORLD if dist.is_initialized() else None)
    return Target(engine.module, ReplicatedTransport(group), engine, basic)
