"""The rows of one forward pass on one rank, whatever the task."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class MicroBatch(NamedTuple):
    """The rows of one forward pass.

    Args:
        inputs: what the model takes, by its keyword; each tensor's first dimension is the rows.
        targets: what the task's loss takes beside the model's outputs; None where the model
            computes its loss from its inputs.
        scale: multiplies the mean loss over this micro batch, so that the plain mean over all micro
            batches and ranks is the mean over the global batch.
    """

    inputs: dict[str, Tensor]
    targets: Tensor | None
    scale: float

    def to(self, device: torch.device) -> MicroBatch:
        """Return it on a device; nobody waits for a copy from pinned memory."""
        inputs = {name: value.to(device, non_blocking=True) for name, value in self.inputs.items()}
        targets = self.targets
        if targets is not None:
            targets = targets.to(device, non_blocking=True)
        return MicroBatch(inputs, targets, self.scale)

    def pinned(self) -> MicroBatch:
        """Return it in memory that a GPU copies from by itself."""
        inputs = {name: value.pin_memory() for name, value in self.inputs.items()}
        targets = self.targets.pin_memory() if self.targets is not None else None
        return MicroBatch(inputs, targets, self.scale)
