"""Reads the state dict in a file of torch.save: .pt, .pth, .bin, .ckpt."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources.restricted import Mapped, open_mapped
from alphadecay.inspect.sources.source import BrokenTensor, Source, StoredTensor

# Where a file holds more than a state dict: the model's, by its usual names.
_INSIDE = ("state_dict", "model_state_dict", "model", "module", "net", "params")


def open_torch_file(path: Path) -> Source:
    """Return what the file holds of a model.

    Raises:
        InspectError: it cannot be read, or holds no state dict.
    """
    mapped = Mapped(partial(_state_dict, path))
    size = path.stat().st_size
    tensors: dict[str, StoredTensor] = {}
    broken = {}
    first: dict[tuple[Any, ...], str] = {}
    for name, tensor in mapped.get(0).items():
        if reason := why_unusable(tensor, size):
            broken[name] = reason
            continue
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        tied_to = first.setdefault(place, name) if tensor.numel() else name
        tensors[name] = StoredTensor(
            name,
            tuple(tensor.shape),
            tensor.dtype,
            partial(_load, mapped, name, tensor.numel() * tensor.itemsize),
            "" if tied_to == name else tied_to,
        )
    return Source(str(path), "a file of torch.save", tensors, broken=broken, files=(path,))


def why_unusable(tensor: Tensor, held: int) -> str:
    """Return why a loaded tensor is not to be read, empty where it is.

    Args: held: bytes of its files: one that is larger repeats itself, or lies.
    """
    if tensor.layout is not torch.strided or tensor.is_quantized:
        return f"it is no plain tensor but {tensor.layout}, {tensor.dtype}"
    if tensor.device.type != "cpu":
        return f"it has no values, for it lies on {tensor.device}"
    if tensor.numel() * tensor.itemsize > held:
        return f"it claims {tensor.numel() * tensor.itemsize:,} bytes, its file has {held:,}"
    return ""


def _state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of the file's state dict.

    Raises:
        InspectError: there is none.
    """
    held = open_mapped(path)
    # the usual names first: beside them lie a state of random numbers, a step and the like
    usual = [held[name] for name in _INSIDE if name in held] if isinstance(held, Mapping) else []
    others = list(held.values()) if isinstance(held, Mapping) else []
    tensors = next((found for value in (*usual, held, *others) if (found := _tensors(value))), {})
    if not tensors:
        raise InspectError(
            f"{path} holds a {type(held).__name__} and no state dict: need a dict of tensors by "
            f"name, at its top or under {', '.join(_INSIDE)}"
        )
    return tensors


def _tensors(value: Any) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        return {}
    return {
        name: tensor
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }


def _load(
    mapped: Mapped[dict[str, Tensor]], name: str, size: int, elements: tuple[int, int] | None
) -> Tensor:
    tensors = mapped.get(size)
    if name not in tensors:
        raise BrokenTensor("it is no longer in the file")
    flat = tensors[name].flatten()
    # a copy, so that no page of the file is held
    return (flat if elements is None else flat[slice(*elements)]).clone()
