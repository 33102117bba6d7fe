"""Weights that every rank holds whole (one process, DDP): the owner reads its replica, nothing is
sent, and the optimizer updates the parameters themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from alphadecay.modules import WeightModule
from alphadecay.sharding.base import Rounds, Sharding, whole_matrix


class Replicated(Sharding):
    """Delivers views of this rank's own replica."""

    def deliver(self, rounds: Rounds) -> Iterator[tuple[WeightModule, Tensor]]:
        for row in rounds:
            module = row[self.rank]
            if module is not None:
                yield module, whole_matrix(module)
