"""Weights that every rank holds whole (one process, DDP, ZeRO-0/1/2): the owner reads its replica,
nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from alphadecay.modules import WeightModule
from alphadecay.transport.base import Rounds, Transport


class ReplicatedTransport(Transport):
    """Delivers views of this rank's own replica."""

    def deliver(self, rounds: Rounds) -> Iterator[tuple[WeightModule, Tensor]]:
        for row in rounds:
            module = row[self.rank]
            if module is not None:
                start, stop = module.flat_range
                yield module, module.matrix(module.parameter.detach().reshape(-1)[start:stop])
