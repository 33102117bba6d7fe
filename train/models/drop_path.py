"""Stochastic depth: a row skips a branch of a layer at random (arXiv 1603.09382)."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """Multiplies each row by 0 or by 1 / (1 - rate) in training; does nothing in evaluation.

    It draws from torch's generator, whose state a checkpoint keeps for every rank.

    Args:
        rate: probability of 0.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Return the branch, its first dimension the rows."""
        if not self.training or not self.rate:
            return branch
        keep = 1 - self.rate
        shape = (len(branch), *[1] * (branch.dim() - 1))
        return branch * branch.new_empty(shape).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """Return what a printed model says of it."""
        return f"rate={self.rate:g}"
