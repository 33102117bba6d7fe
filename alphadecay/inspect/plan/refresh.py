"""Predicts a refresh from shapes: who owns what, what each rank sends and receives, how long it is.

W ranks, of which S share one copy of the weights; R rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alphadecay.inspect.plan.machines import Machine
from alphadecay.inspect.plan.memory import Spread
from alphadecay.inspect.plan.model import ModuleShape
from alphadecay.owners import Plan, plan_owners
from alphadecay.sharding.layout import piece_sizes

_FLOAT64 = 8
ROW = 6  # numbers of a module in the table: the fields of EstimateRow


@dataclass(frozen=True)
class PlannedModule:
    """One module in a refresh.

    Args:
        name: of the module.
        shape: (M, N).
        owner: the rank that computes its spectrum.
        seconds: of the spectrum.
        received: bytes that its owner gets of it from other ranks.
    """

    name: str
    shape: tuple[int, int]
    owner: int
    seconds: float
    received: int


@dataclass(frozen=True)
class PlannedRank:
    """One rank in a refresh.

    Args:
        rank: its number.
        modules: how many it owns.
        seconds: of their spectra.
        sent: bytes of weights to other ranks.
        received: bytes of weights from other ranks.
    """

    rank: int
    modules: int
    seconds: float
    sent: int
    received: int


@dataclass(frozen=True)
class RefreshPlan:
    """A refresh, as it will be.

    Args:
        modules: in the model's order.
        ranks: all of them.
        rounds: in which the matrices are sent.
        solving: seconds of the spectra, where ranks wait for each other in every round that sends.
        moving: seconds of what is sent, at the machine's rate, and of the collectives.
        table: bytes of the table of all alphas, which one all-reduce shares at the end.
    """

    modules: tuple[PlannedModule, ...]
    ranks: tuple[PlannedRank, ...]
    rounds: int
    solving: float
    moving: float
    table: int

    @property
    def seconds(self) -> float:
        """The whole refresh's."""
        return self.solving + self.moving

    @property
    def imbalance(self) -> float:
        """The busiest rank's seconds over the ranks' mean."""
        loads = [rank.seconds for rank in self.ranks]
        return max(loads) * len(loads) / sum(loads)


def plan_refresh(
    modules: Sequence[ModuleShape], world_size: int, spread: Spread, machine: Machine
) -> RefreshPlan:
    """Return the refresh of a model's modules.

    Args:
        modules: at least one.
        world_size: all ranks, a multiple of those that share a copy.
    """
    owners = plan_owners({module.name: module.shape for module in modules}, world_size)
    cost = {shape: machine.seconds(shape) for shape in {module.shape for module in modules}}
    seconds = {module.name: cost[module.shape] for module in modules}
    traffic = _Traffic(world_size, spread)
    planned = []
    for module in modules:
        owner = owners.owners[module.name]
        received = traffic.add(module, owner)
        planned.append(
            PlannedModule(module.name, module.shape, owner, seconds[module.name], received)
        )
    waits = spread.wire_itemsize > 0
    calls = (world_size > 1) * (len(owners.rounds) * waits + 1)  # at the end the table
    return RefreshPlan(
        modules=tuple(planned),
        ranks=tuple(_ranks(planned, traffic, world_size)),
        rounds=len(owners.rounds),
        solving=_solving(owners, seconds, waits),
        moving=traffic.most() / machine.link + calls * machine.latency,
        table=(len(modules) + 1) * ROW * _FLOAT64,
    )


class _Traffic:
    """The bytes of weights that ranks exchange, module by module."""

    def __init__(self, world_size: int, spread: Spread) -> None:
        self._spread = spread
        copies = world_size // spread.ranks
        self._pieces_CS: NDArray[np.int64] = np.zeros((copies, spread.ranks), dtype=np.int64)
        self._own_W: NDArray[np.int64] = np.zeros(world_size, dtype=np.int64)
        self._received_W: NDArray[np.int64] = np.zeros(world_size, dtype=np.int64)

    def add(self, module: ModuleShape, owner: int) -> int:
        """Count a module in, and return the bytes that its owner receives."""
        itemsize = self._spread.wire_itemsize
        if not itemsize:
            return 0
        copy, shard = divmod(owner, self._spread.ranks)
        full = self._spread.full_piece(module.whole)
        pieces_S = piece_sizes(module.flat_range, full, self._spread.ranks)
        kept = int(pieces_S[shard])
        received = int(pieces_S.sum()) - kept
        self._pieces_CS[copy] += pieces_S
        self._own_W[owner] += kept
        self._received_W[owner] += received
        return itemsize * received

    def of(self, rank: int) -> tuple[int, int]:
        """Return the bytes that a rank sends and receives."""
        itemsize = self._spread.wire_itemsize
        sent = self._pieces_CS.reshape(-1)[rank] - self._own_W[rank]
        return int(sent) * itemsize, int(self._received_W[rank]) * itemsize

    def most(self) -> int:
        """Return the most bytes that any rank sends or receives."""
        sent_W = self._pieces_CS.reshape(-1) - self._own_W
        return int(max(sent_W.max(), self._received_W.max())) * self._spread.wire_itemsize


def _ranks(
    modules: Sequence[PlannedModule], traffic: _Traffic, world_size: int
) -> list[PlannedRank]:
    counts = [0] * world_size
    loads = [0.0] * world_size
    for module in modules:
        counts[module.owner] += 1
        loads[module.owner] += module.seconds
    return [
        PlannedRank(rank, counts[rank], loads[rank], *traffic.of(rank))
        for rank in range(world_size)
    ]


def _solving(plan: Plan, seconds: dict[str, float], waits: bool) -> float:
    """Return the seconds until the last rank is done.

    Args:
        waits: every round begins with an exchange, for which all ranks wait.
    """
    rounds = [[0.0 if name is None else seconds[name] for name in row] for row in plan.rounds]
    if waits:
        return sum(map(max, rounds))
    return max(map(sum, zip(*rounds, strict=True)))
