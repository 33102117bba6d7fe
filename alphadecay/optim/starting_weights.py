"""Decay towards the weights that a training begins from, in the place of zero.

w ← w − η·λ·(w − w₀), before the step: L2-SP (arXiv 1802.01483) as decoupled decay. What an
optimizer's tensors hold when they are kept is w₀; so this comes after the pretrained weights are
loaded, and before a checkpoint is. It costs a copy of those tensors, and nothing is saved of it:
who goes on from a checkpoint begins with the same pretrained weights again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from alphadecay.optim.arithmetic import refuse_coarse
from alphadecay.optim.cuts import Bound


class StartingWeights:
    """The weights of an optimizer's tensors as they are now, towards which they decay.

    Args:
        bounds: the tensors with their cuts.
    """

    def __init__(self, bounds: Iterable[Bound]) -> None:
        self._starts = {
            id(bound.tensor): bound.local(bound.tensor).detach().clone() for bound in bounds
        }

    def pull(self, bound: Bound, amounts: Sequence[Any]) -> None:
        """Decay a tensor's cuts towards where they were.

        Args:
            bound: the tensor.
            amounts: lr · λ of each cut: a number, a tensor of none or of the cut's dimensions; 0.0
                where nothing decays.

        Raises:
            ValueError: the tensor is too coarse for decay.
        """
        starts = bound.cut_up(self._starts[id(bound.tensor)])
        for view, start, amount in zip(bound.views(bound.tensor), starts, amounts, strict=True):
            if isinstance(amount, Tensor) or amount:
                refuse_coarse(view.dtype)
                view.lerp_(start, amount)
