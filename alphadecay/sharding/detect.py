"""Finds the bare model and its sharding from what the user holds: a module, a wrapper around one,
or a DeepSpeed engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from alphadecay.modules import bare_name
from alphadecay.sharding.base import Sharding
from alphadecay.sharding.refusals import refuse_engine, refuse_model
from alphadecay.sharding.replicated import Replicated
from alphadecay.sharding.zero import is_partitioned, zero_sharding


@dataclass(frozen=True)
class Target:
    """What AlphaDecay works on.

    Args:
        model: the bare module.
        sharding: how its weights reach their owners, and its optimizer's slices lie.
        engine: the DeepSpeed engine, or None.
    """

    model: nn.Module
    sharding: Sharding
    engine: Any | None = None


def detect(model: Any) -> Target:
    """Look at `model` by what it offers, so that DeepSpeed need not be importable.

    Collective in a distributed run of plain models, which are compared.

    Raises:
        TypeError: neither a module nor an engine.
        ValueError: weights that cannot be seen or told apart; the message says which.
        RuntimeError: a plain model whose weights differ between the ranks.
    """
    wrapper = _bare(model)
    if _is_engine(wrapper):
        refuse_engine(wrapper)
        refuse_model(wrapper.module)
        return Target(wrapper.module, zero_sharding(wrapper), wrapper)
    if not isinstance(wrapper, nn.Module):
        raise TypeError(
            f"AlphaDecay takes a torch module or a DeepSpeed engine, got {type(wrapper).__name__}"
        )
    replicas = wrapper if isinstance(wrapper, DistributedDataParallel) else None
    bare = wrapper if replicas is None else _bare(replicas.module)
    refuse_model(bare)
    sharding = _sharding_of(bare, replicas)
    sharding.unshared = _unshared(bare, replicas)
    return Target(bare, sharding)


def _bare(model: Any) -> Any:
    """Return what is inside all wrappers but DDP's, which knows the process group."""
    while (inner := _inside(model)) is not None:
        model = inner
    return model


def _inside(model: Any) -> Any:
    """Return what a wrapper holds that the others hide behind; None for what is none."""
    if _is_engine(model):
        return None
    for attribute in ("_forward_module", "_orig_mod"):  # Lightning Fabric's, torch.compile's
        inner = getattr(model, attribute, None)
        if inner is not None:
            return inner
    return model.module if isinstance(model, nn.DataParallel) else None


def _is_engine(model: Any) -> bool:
    return hasattr(model, "zero_optimization_stage") and hasattr(model, "module")


def _sharding_of(model: nn.Module, replicas: Any) -> Sharding:
    if replicas is not None:
        return Replicated(_device(model), replicas.process_group)
    if any(is_partitioned(p) for p in model.parameters()):
        raise ValueError(
            "the model's weights are partitioned by ZeRO-3: pass the engine, AlphaDecay(engine, "
            "...), not the module"
        )
    whole: list[Any] = [m for m in model.modules() if hasattr(m, "set_requires_all_reduce")]
    for module in whole:
        module.reshard()  # FSDP2's root stays whole after an evaluation
    placed = {n: p for n, p in model.named_parameters() if hasattr(p, "placements")}
    if placed:
        # DTensor takes a second to import, and most models have none
        from alphadecay.sharding.fsdp2 import fsdp2_sharding

        return fsdp2_sharding(placed)
    if dist.is_initialized() and dist.get_world_size() > 1:
        return _replicas(model)
    return Replicated(_device(model), None)


def _unshared(model: nn.Module, replicas: Any) -> frozenset[int]:
    """Return the ids of what DDP was told to ignore, or of what is whole beside FSDP2's shards."""
    if replicas is not None:
        left = {bare_name(name) for name in replicas.parameters_to_ignore}
        return frozenset(id(p) for n, p in model.named_parameters() if bare_name(n) in left)
    whole = [id(p) for p in model.parameters() if not hasattr(p, "placements")]
    return frozenset(whole if len(whole) < len(list(model.parameters())) else ())


def _replicas(model: nn.Module) -> Sharding:
    """A plain model on every rank, as inside DDP or with a loop that reduces gradients itself.

    Collective: the ranks compare their weights.
    """
    sharding = Replicated(_device(model), dist.group.WORLD)
    with torch.no_grad():
        sums = [p.sum(dtype=torch.float64).to(sharding.device) for p in model.parameters()]
    values = torch.stack(sums).tolist() if sums else []
    shapes = [float(length) for p in model.parameters() for length in p.shape]
    sharding.agree(
        [*shapes, *values],
        f"the weights of {type(model).__name__}, which is neither wrapped nor sharded,",
    )
    return sharding


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
