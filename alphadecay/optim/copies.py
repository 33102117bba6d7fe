"""Copies of weights from before a step, and elementwise work in pieces that fit a CPU's cache."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import torch
from torch import Tensor

_CHUNK = 1 << 16  # elements: some tensors of so many stay in a core's cache


class Copies:
    """Makes copies, one a key.

    On a CPU the memory of a copy is kept for the next step, since fresh pages cost twice as much as
    the copy itself; elsewhere torch's allocator keeps it.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, Tensor] = {}

    def take(self, key: Hashable, tensor: Tensor) -> Tensor:
        """Return a contiguous copy, which holds until the next of its key."""
        tensor = tensor.detach()
        if tensor.device.type != "cpu":
            return tensor.clone(memory_format=torch.contiguous_format)
        kept = self._kept.get(key)
        if kept is None or (kept.shape, kept.dtype) != (tensor.shape, tensor.dtype):
            kept = torch.empty_like(tensor, memory_format=torch.contiguous_format)
            self._kept[key] = kept
        return kept.copy_(tensor)


def chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield pieces of tensors of one shape that fit a CPU's cache; all at once elsewhere."""
    if all(each.is_contiguous() and each.device.type == "cpu" for each in tensors):
        yield from zip(*(each.view(-1).split(_CHUNK) for each in tensors), strict=True)
    else:
        yield tensors
