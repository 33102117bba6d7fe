"""Keeps an exponential moving average of the weights beside the optimizer's moments.

There it is saved, loaded and resharded as they are. A DTensor's local shard is what a rank has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from alphadecay.inspect.sources.stored import AVERAGE
from train.engines.optimizer import first_moments


class WeightAverage:
    """The average of what an optimizer updates: average ← d·average + (1 − d)·weight.

    It begins as the weights are.

    Args:
        optimizer: torch's own, whose state takes it.
        groups: what it updates, float32 -> its param group; they have no state yet.
        decay: d.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        groups: Mapping[Tensor, Mapping[str, Any]],
        decay: float,
    ) -> None:
        self._optimizer = optimizer
        self._decay = decay
        self._tensors = list(groups)
        for tensor, group in groups.items():
            if not optimizer.state[tensor]:  # with a state of ours it would make none itself
                optimizer.state[tensor].update(first_moments(tensor, group))
            optimizer.state[tensor][AVERAGE] = tensor.detach().clone()

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step; the host waits for nothing."""
        torch._foreach_lerp_(self._averages(), self._weights(), 1 - self._decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and average, bit for bit; a second time takes it back."""
        for average, weight in zip(self._averages(), self._weights(), strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def _weights(self) -> list[Tensor]:
        return [_local(tensor.detach()) for tensor in self._tensors]

    def _averages(self) -> list[Tensor]:
        """Look each up: a checkpoint that is loaded brings tensors of its own."""
        return [_local(self._optimizer.state[tensor][AVERAGE]) for tensor in self._tensors]


def _local(tensor: Any) -> Tensor:
    """Return what this rank holds of a tensor."""
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local
