"""Works around DeepSpeed where it would change what a run computes, or keep it waiting."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from alphadecay.sharding.base import Span
from train.engines.average import AVERAGE


def forgetting_forward_passes(engine: Any) -> Callable[[], None]:
    """Return a callback to run after each evaluation forward pass.

    It discards the prefetch trace which ZeRO-3 recorded during that pass, and leaves none where
    there was none before.

    DeepSpeed (0.19) remembers which weights each module may release, and keeps that when the trace
    it was read from is thrown away. After an evaluation ahead of the first training step every
    weight would be released after its forward for the rest of the run, and gathered again, each
    alone, in the backward (`tests/distributed/test_evaluate.py` counts the gathers).
    """
    offload = getattr(getattr(engine, "optimizer", None), "parameter_offload", None)
    coordinator = offload.get_param_coordinator() if offload is not None else None
    if coordinator is None or not coordinator.is_invalid_trace():
        return lambda: None

    def forget() -> None:
        if not coordinator.is_invalid_trace():
            coordinator._invalidate_trace()

    return forget


def import_muon_uncompiled() -> None:
    """Import DeepSpeed's Muon as plain functions, before DeepSpeed does.

    DeepSpeed (0.19) imports it to ask whether the optimizer is one, which the program's never is.
    Its functions are decorated with torch.compile, and that takes in the whole compiler: a fifth of
    the time from the command to the first step on a CPU.
    """
    compile_function = torch.compile
    torch.compile = lambda model=None, **_: model or (lambda function: function)  # type: ignore
    try:
        with suppress(ImportError):  # older ones have no Muon
            import_module("deepspeed.runtime.zero.muon.muon_optimizer")
    finally:
        torch.compile = compile_function  # type: ignore[assignment]


@contextmanager
def without_memory_reports() -> Iterator[None]:
    """Keep ZeRO-1 in bf16 from reporting memory while it is built; LOG_LEVEL=INFO lets it.

    DeepSpeed (0.19) prints twelve lines there, whatever its log level, and has the garbage
    collector go through everything that was imported before each of the four reports: one to two
    seconds.
    """
    if os.environ.get("LOG_LEVEL", "").upper() in ("INFO", "DEBUG"):
        yield
        return
    from deepspeed.runtime import bf16_optimizer

    report = bf16_optimizer.see_memory_usage
    bf16_optimizer.see_memory_usage = lambda message, force=False: None
    try:
        yield
    finally:
        bf16_optimizer.see_memory_usage = report


@torch.no_grad()
def copy_masters_to_model(engine: Any, spans: Sequence[Span]) -> None:
    """Have the model compute with what the optimizer's float32 weights are now. Collective.

    DeepSpeed does it at the end of its steps, and has no one call for all stages.

    Args:
        spans: of the engine.
    """
    wrapper = engine.optimizer
    if hasattr(wrapper, "fp32_partitioned_groups_flat"):  # stage 3
        wrapper.checkpoint_event_prologue()
        for group in range(len(wrapper.fp32_partitioned_groups_flat)):
            wrapper._reassign_or_swap_out_partitioned_parameters(group)
        wrapper.checkpoint_event_epilogue()
    elif hasattr(wrapper, "update_lp_params"):  # stages 1 and 2, and BF16_Optimizer
        wrapper.update_lp_params()
    else:  # stage 0: each weight is whole
        for span in spans:
            if span.tensor is not span.parameter:
                part = span.tensor.view(-1).narrow(0, span.offset, span.length)
                span.parameter.copy_(part.view(span.parameter.shape))


def load_universal_average(engine: Any, folder: Path) -> None:
    """Load the average of the weights from a universal checkpoint at stage 3.

    DeepSpeed (0.19) loads Adam's moments there and nothing else; at stages 1 and 2 it loads all
    that it finds.

    Args:
        folder: of the state.
    """
    wrapper = engine.optimizer
    if not hasattr(wrapper, "fp32_partitioned_groups_flat"):
        return
    groups = zip(wrapper.fp16_groups, wrapper.fp32_partitioned_groups_flat, strict=True)
    for parameters, flat in groups:
        average = torch.zeros_like(flat)
        offset = 0
        for parameter in parameters:
            place = str(folder / "zero" / wrapper.param_names[parameter])
            share = wrapper.load_hp_checkpoint_state(place, AVERAGE, param=parameter)
            average.narrow(0, offset, share.numel()).copy_(share)
            offset += share.numel()
        wrapper.optimizer.state[flat][AVERAGE] = average
