"""Counts what a step of the bare model launches, under torch's profiler on a CPU."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from tests.bench.counting import quiet
from train.config import TrainConfig
from train.config.command_line import load_config
from train.engines.optimizer import build_optimizer
from train.models.build import build_model

ROWS = 4
# Make memory or find it out, and launch nothing on a GPU.
_NO_KERNEL = frozenset({"empty", "empty_like", "empty_strided", "resize_", "result_type"})


def count_kernels(rank: int, arguments: list[str], compiles: bool) -> dict[str, dict[str, int]]:
    """Return the kernels of forward and backward, and of the optimizer's step, by set of kernels.

    Args:
        arguments: of the recipe.
        compiles: there is a compiler.
    """
    config = load_config(arguments)
    model = config.model
    kinds = {
        "plain": (replace(model, fused_cross_entropy=False), False),
        "chunked loss": (replace(model, fused_cross_entropy="chunked"), False),
        "fused optimizer": (replace(model, fused_cross_entropy=False), True),
    }
    if compiles:
        kinds["layers compiled"] = (replace(model, compile=True, fused_cross_entropy=False), False)
        every = replace(model, compile=True, fused_cross_entropy="chunked")
        kinds["all of them, the defaults on CUDA"] = (every, True)
        torch._inductor.config.cpp.enable_kernel_profile = True
    return {
        name: _of_step(replace(config, model=kind, optim=replace(config.optim, fused=fused)))
        for name, (kind, fused) in kinds.items()
    }


def _of_step(config: TrainConfig) -> dict[str, int]:
    model = build_model(config.model, config.data.sequence_length, seed=1).train()
    optimizer = build_optimizer(config, model.parameters())
    tokens = torch.randint(config.model.vocab_size, (ROWS, config.data.sequence_length))
    for _ in range(2):  # the first compiles and makes the optimizer's state
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
    with quiet(), profile(activities=[ProfilerActivity.CPU]) as passes:
        model(input_ids=tokens, labels=tokens).loss.backward()
    with quiet(), profile(activities=[ProfilerActivity.CPU]) as step:
        optimizer.step()
    return {"forward and backward": _launches(passes), "optimizer": _launches(step)}


def _launches(recorded: Any) -> int:
    """Count operations without others inside that compute something, and compiled loops."""
    counts: Counter[str] = Counter()
    for event in recorded.events():
        if event.name.startswith("aten::") and not _computes_within(event):
            counts[event.name] += _computes(event.name)
        elif "cpp_fused" in event.name:
            counts[event.name] += 1
    return counts.total()


def _computes_within(event: Any) -> bool:
    return any(
        (child.name.startswith("aten::") and _computes(child.name)) or _computes_within(child)
        for child in event.cpu_children
    )


def _computes(name: str) -> bool:
    """Return whether an operation writes new values; views and allocations do not."""
    packet = getattr(torch.ops.aten, name.removeprefix("aten::"), None)
    if packet is None or name.removeprefix("aten::") in _NO_KERNEL:
        return False
    returns = getattr(packet, packet.overloads()[0])._schema.returns
    alias = returns[0].alias_info if returns else None
    return alias is None or alias.is_write
