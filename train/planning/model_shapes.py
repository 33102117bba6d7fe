"""Makes the model without its weights, and counts them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import torch

from train.config import ModelConfig, TrainConfig
from train.models import spec_of


@cache
def model_without_weights(model: ModelConfig, sequence_length: int) -> torch.nn.Module:
    """Return the model with shapes alone, which take neither memory nor time.

    Args:
        sequence_length: tokens in a row.
    """
    spec = spec_of(model)
    # other attention kernels want a GPU and have the same weights
    with torch.device("meta"):
        return spec.bare(spec.config(replace(model, attention="sdpa"), sequence_length))


def parameter_lines(c: TrainConfig, model: torch.nn.Module) -> Iterator[str]:
    """Yield the number of parameters, in all and by part."""
    parts = spec_of(c.model).parts
    counts = dict.fromkeys(parts, 0)
    for name, parameter in model.named_parameters():
        counts[next(part for part, word in parts.items() if word in name)] += parameter.numel()
    yield f"Parameters {sum(counts.values()) / 1e6:,.2f}M"
    yield from (f"  {part:<12}{count / 1e6:>12,.2f}M" for part, count in counts.items())
    if c.model.quantize != "none":
        yield (
            f"  The decoder layers' matrices compute as -1, 0 and 1 ({c.model.quantize}); the "
            "memory below is of the weights behind them"
        )
