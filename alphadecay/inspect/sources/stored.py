"""What a checkpoint holds by parameter, found in its files and read one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from alphadecay.inspect.errors import InspectError

MASTER = "fp32"
STEP = "step"  # what an optimizer counts; beside its moments
AVERAGE = "ema"  # of a weight over the steps, where a run keeps it beside the moments


@dataclass(frozen=True)
class StoredWeight:
    """A weight that lies in a checkpoint's files.

    Args:
        shape: its whole shape.
        load: reads it, in whatever dtype it is stored in.
    """

    shape: torch.Size
    load: Callable[[], Tensor]

    def read(self) -> Tensor:
        """Return the float32 weight, [shape]."""
        return self.load().detach().float().view(self.shape)


@dataclass(frozen=True)
class OptimizerState:
    """What an optimizer wrote.

    Args:
        parameters: name in the engine's model, tied ones once -> the weight as fp32, and each of
            its moments, by the optimizer's names for them.
        step: of every parameter, as the optimizer counts it; None where it counts none.
        param_groups: its own; none where they are not stored.
        others: the rest of what the first rank wrote, by name.
    """

    parameters: dict[str, dict[str, StoredWeight]]
    step: Any
    param_groups: list[dict[str, Any]]
    others: dict[str, Any]


def moments_of(state: Mapping[str, Any]) -> list[str]:
    """Return the names of what an optimizer keeps of every element, given its state of one
    tensor.
    """
    return [key for key, value in state.items() if isinstance(value, Tensor) and key != STEP]


def of_tensor(weight: Tensor) -> StoredWeight:
    """Return a weight that is at hand."""
    return StoredWeight(weight.shape, lambda: weight)


def unflatten(
    shapes: Mapping[str, torch.Size], pieces: Sequence[Tensor], paddings: Sequence[int] = ()
) -> dict[str, StoredWeight]:
    """Find weights that lie one after the other in one group, each with its padding if any."""
    weights = {}
    offset = 0
    for place, (name, shape) in enumerate(shapes.items()):
        weights[name] = StoredWeight(shape, partial(cut, pieces, offset, shape.numel()))
        offset += shape.numel() + (paddings[place] if paddings else 0)
    return weights


def cut(pieces: Sequence[Tensor], start: int, count: int) -> Tensor:
    """Return `count` elements from `start` on of the pieces, as if they lay end to end.

    Raises:
        InspectError: there are fewer.
    """
    taken = []
    left = count
    for piece in pieces:
        length = min(left, piece.numel() - start)
        if length > 0:
            taken.append(piece.flatten().narrow(0, start, length))
            left -= length
        start = max(0, start - piece.numel())
    if left:
        raise InspectError(f"the checkpoint's files end {left:,} elements before the weight does")
    return torch.cat(taken)
