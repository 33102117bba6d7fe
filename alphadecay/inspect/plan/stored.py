"""Finds the shapes of a stored model, and modules that are parts of weights: by the library's own
choice, on layers without values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alphadecay.inspect.models import find_weights
from alphadecay.inspect.plan.architectures import Shape
from alphadecay.inspect.plan.model import ModuleShape, PlannedModel
from alphadecay.inspect.sources import BrokenTensor, Source, StoredTensor, open_source
from alphadecay.modules import WeightModule, whole_shape


def read_stored(name: str, path: Path) -> PlannedModel:
    """Return the shapes of a stored model, of which only the headers are read.

    Raises:
        InspectError: it cannot be read, or there is none.
    """
    return _planned(name, open_source(path))


def model_of_shapes(name: str, weights: Iterable[Shape], config: Mapping[str, Any]) -> PlannedModel:
    """Return a model whose weights are known.

    Args:
        name: what it is called.
        config: of config.json, which tells how weights divide.
    """
    tensors = {
        weight.name: StoredTensor(weight.name, weight.shape, torch.bfloat16, _no_values)
        for weight in weights
    }
    return _planned(name, Source(name, "a configuration", tensors, config))


def _planned(name: str, source: Source) -> PlannedModel:
    weights = find_weights(source)
    floats = (t for t in source.tensors.values() if t.dtype and t.dtype.is_floating_point)
    aside = [f"{weight} is left out: {why}" for weight, why in weights.set_aside.items()]
    return PlannedModel(
        name,
        tuple(tensor.shape for tensor in floats if not tensor.tied_to),
        tuple(_shape(weight.module) for weight in weights.measured if weight.takes_part),
        (*weights.warnings, *aside),
    )


def _shape(module: WeightModule) -> ModuleShape:
    return ModuleShape(module.name, module.shape, whole_shape(module.parameter), module.flat_range)


def _no_values(elements: tuple[int, int] | None) -> Tensor:
    raise BrokenTensor("a configuration has no values")
