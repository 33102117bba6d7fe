"""A model as the names, shapes and kinds of its weights, and the same without their values.

The library chooses modules in a model, not in a list: `skeleton` makes a list into one, of layers
that hold shapes alone, so that there is one choice for plans and runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import nn

Kind = Literal[
    "linear", "conv1d", "embedding", "experts", "transposed_experts", "convolution", "other"
]


@dataclass(frozen=True)
class Weight:
    """One parameter.

    Args:
        name: in the bare model.
        shape: whole.
        kind: of the layer that holds it. Stacks of experts are [E, outputs, inputs], transposed
            ones [E, inputs, outputs] with gate and up in turns.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind = "linear"


class Conv1D(nn.Module):
    """This holds a linear weight [inputs, outputs], as transformers' layer of that name."""


def skeleton(weights: Iterable[Weight], config: Mapping[str, Any]) -> nn.Module:
    """Return a model of these weights, on the meta device.

    Args:
        config: the model's configuration, which tells of heads and families.
    """
    model = nn.Module()
    model.config = SimpleNamespace(**config)  # type: ignore[assignment]
    for weight in weights:
        *path, leaf = weight.name.split(".")
        layer = _layer(model, path, weight)
        shape = torch.empty(weight.shape, device="meta")
        layer.register_parameter(leaf, nn.Parameter(shape))
    return model


def _layer(model: nn.Module, path: list[str], weight: Weight) -> nn.Module:
    """Return the layer at a path, made where it is not there yet."""
    layer = model
    for depth, part in enumerate(path):
        held = layer._modules.get(part)
        if held is None:
            held = _empty(weight) if depth == len(path) - 1 else nn.Module()
            layer.add_module(part, held)
        layer = held
    return layer


def _empty(weight: Weight) -> nn.Module:
    """Return a layer of a weight's kind without parameters."""
    layers: dict[str, type[nn.Module]] = {
        "linear": nn.Linear,
        "conv1d": Conv1D,
        "embedding": nn.Embedding,
        "convolution": nn.Conv2d,
    }
    kind = layers.get(weight.kind, nn.Module)
    layer: Any = kind.__new__(kind)
    nn.Module.__init__(layer)  # its own would make a tensor
    if kind is nn.Embedding:
        layer.num_embeddings = weight.shape[0]
    if weight.kind in ("experts", "transposed_experts"):
        layer.is_transposed = weight.kind == "transposed_experts"
        layer.is_concatenated = not layer.is_transposed
    made: nn.Module = layer
    return made
