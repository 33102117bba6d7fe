"""A model in memory as if all of it were trained: the library leaves out what is not."""

from __future__ import annotations

import copy

from torch import nn


def as_trained(model: nn.Module) -> nn.Module:
    """Return the model, or where some of it is frozen a copy of its tree over the same storage, in
    which every floating parameter is trained. The model itself stays as it is.
    """
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    return _copy(model, {}) if frozen else model


def _copy(layer: nn.Module, made: dict[int, nn.Parameter]) -> nn.Module:
    """Return a copy of a layer and of what it holds.

    Args: made: id of a parameter -> what stands for it: tied ones stay one.
    """
    twin = copy.copy(layer)
    twin._parameters = {name: _trained(p, made) for name, p in layer._parameters.items()}
    twin._modules = {
        name: None if child is None else _copy(child, made)
        for name, child in layer._modules.items()
    }
    return twin


def _trained(parameter: nn.Parameter | None, made: dict[int, nn.Parameter]) -> nn.Parameter | None:
    if parameter is None or parameter.requires_grad or not parameter.is_floating_point():
        return parameter
    return made.setdefault(id(parameter), nn.Parameter(parameter.detach()))
