"""The weights and moments that DeepSpeed writes at ZeRO stage 0, where every rank has them whole:
one file, in float32 the model's own weights, in 16 bits the copies that the optimizer keeps.

DeepSpeed notes there neither which weights are tied nor the names of what an optimizer updates; its
order is the model's, tied weights once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Size, Tensor

from alphadecay.inspect.sources.stored import (
    MASTER,
    STEP,
    OptimizerState,
    StoredWeight,
    moments_of,
    of_tensor,
    unflatten,
)

_COPIES = "fp32_groups"  # a float32 copy of each weight
_FLAT_COPIES = "fp32_groups_flat"  # of each group, end to end


def masters_of(model: Mapping[str, Any]) -> dict[str, StoredWeight]:
    """Return every weight by its name, tied names both.

    Args:
        model: the content of the file.
    """
    module = _tensors(model)
    ties = _ties(module)
    weights = _masters(model, {name: module[name] for name in ties.values()})
    return {name: weights[stored] for name, stored in ties.items()}


def optimizer_of(model: Mapping[str, Any]) -> OptimizerState:
    """Return every weight that the optimizer updates, with its moments; arguments as there."""
    module = _tensors(model)
    buffers = set(model.get("buffer_names") or ())
    owned = {name: module[name] for name in _ties(module).values() if name not in buffers}
    inner = model["optimizer"].get("optimizer_state_dict", model["optimizer"])
    parameters = {name: {MASTER: weight} for name, weight in _masters(model, owned).items()}
    shapes = {name: tensor.shape for name, tensor in owned.items()}
    states = [inner["state"].get(number, {}) for number in _order(inner)]  # none before a step
    for kind in moments_of(states[0]):
        moments = [state[kind] for state in states]
        for name, moment in _by_name(shapes, moments, _FLAT_COPIES in model["optimizer"]).items():
            parameters[name][kind] = moment
    return OptimizerState(parameters, states[0].get(STEP), list(inner["param_groups"]), {})


def _tensors(model: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return what the model holds but for some layers' own states, which are no tensors."""
    return {name: held for name, held in model["module"].items() if isinstance(held, Tensor)}


def _ties(module: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the name that each is stored under: a tied weight's bytes are there once."""
    first: dict[int, str] = {}
    return {name: first.setdefault(weight.data_ptr(), name) for name, weight in module.items()}


def _masters(model: Mapping[str, Any], stored: Mapping[str, Tensor]) -> dict[str, StoredWeight]:
    shapes = {name: weight.shape for name, weight in stored.items()}
    optimizer = model["optimizer"]
    if _COPIES in optimizer:
        copies = [copy for group in optimizer[_COPIES] for copy in group]
        return _by_name(shapes, copies, flat=False)
    if _FLAT_COPIES in optimizer:
        return _by_name(shapes, list(optimizer[_FLAT_COPIES]), flat=True)
    return {name: of_tensor(weight) for name, weight in stored.items()}


def _by_name(
    shapes: Mapping[str, Size], tensors: list[Tensor], flat: bool
) -> dict[str, StoredWeight]:
    """Name the tensors of an optimizer.

    Args:
        flat: they are of groups, end to end; else of one weight each.
    """
    if flat:
        return unflatten(shapes, tensors)
    return dict(zip(shapes, map(of_tensor, tensors), strict=True))


def _order(inner: Mapping[str, Any]) -> list[int]:
    """Return the numbers of an optimizer's tensors in the order of its groups."""
    return [number for group in inner["param_groups"] for number in group["params"]]
