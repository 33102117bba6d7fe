"""Reads a model in memory by its parameters."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from alphadecay.inspect.sources.source import BrokenTensor, Source, StoredTensor, named
from alphadecay.modules import named_parameters, whole_shape


def open_model(model: nn.Module) -> Source:
    """Return the parameters of a model, by their names in the bare model."""
    tensors = [
        StoredTensor(name, whole_shape(p), p.dtype, partial(_load, p))
        for name, p in named_parameters(model).items()
    ]
    return Source(type(model).__name__, "a model in memory", named(tensors), model=model)


def _load(parameter: Tensor, elements: tuple[int, int] | None) -> Tensor:
    if hasattr(parameter, "placements") or hasattr(parameter, "ds_shape"):
        raise BrokenTensor(
            "it is sharded over ranks: AlphaDecay measures it there (decay.alphas), and here the "
            "checkpoint can be read"
        )
    if parameter.device.type == "meta":
        raise BrokenTensor("it has no values, for it lies on meta")
    flat = parameter.detach().flatten()
    return flat if elements is None else flat[slice(*elements)]
