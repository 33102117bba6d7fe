"""Tells in which numbers gradients are added up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from train.engines.ds_config import (
    gradients_accumulated_in,
    gradients_reduced_in,
    zero_stage,
)

_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def gradient_lines(ds_config: Mapping[str, Any], world_size: int, micro: int) -> Iterator[str]:
    """Yield what gradients are accumulated and reduced in, with what there is to mind.

    Args:
        micro: micro batches of a step on each rank.
    """
    accumulated = gradients_accumulated_in(ds_config)
    reduced = gradients_reduced_in(ds_config)
    yield (
        f"Gradients: accumulated over micro batches in {_NAMES.get(accumulated, accumulated)}, "
        f"reduced over ranks in {_NAMES.get(reduced, reduced)}"
    )
    if accumulated != "fp32" and micro > 1:
        yield (
            f"  note: a sum of {micro} micro batches in bfloat16 keeps 8 bits"
            + "; ZeRO-1 to 3 accumulate in float32" * (zero_stage(ds_config) == 0)
        )
    if reduced != "fp32" and world_size > 8:
        yield (
            f"  note: a sum over {world_size} ranks in {_NAMES.get(reduced, reduced)} keeps few "
            'bits; "communication_data_type": "fp32" in the DeepSpeed JSON costs twice the traffic'
        )
