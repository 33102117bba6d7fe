"""Owner ranks: which rank decomposes which matrix.

Costs of shapes and a world size in, a plan out; no messages.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

# Time of one flop of eigvalsh over one flop of the Gram product, float32: 2.1 to 5.0 on one CPU
# thread at sides from 2048 down to 512 (tests/bench/spectral.py measures it). It only weighs shapes
# against each other.
EIGENSOLVE_FLOP_COST = 3.0


def module_cost(shape: tuple[int, int]) -> float:
    """Return the cost of one spectrum in Gram-product flops: 2·m·n·N for the Gram of the smaller
    side N, 4/3·N³ for its eigenvalues.
    """
    n, m = sorted(shape)
    return 2.0 * m * n * n + EIGENSOLVE_FLOP_COST * 4.0 / 3.0 * n**3


@dataclass(frozen=True)
class Plan:
    """Who owns what, and when it is sent.

    Args:
        owners: module name -> owner rank.
        rounds: rounds[r][rank] is the module that `rank` receives in round r, or None.
        loads: cost per rank, in Gram-product flops.
    """

    owners: dict[str, int]
    rounds: tuple[tuple[str | None, ...], ...]
    loads: tuple[float, ...]

    def describe(self) -> str:
        """Return the plan for a person: one line per rank."""
        total = sum(self.loads) or 1.0
        counts = Counter(self.owners.values())
        lines = [
            f"{len(self.owners)} modules on {len(self.loads)} owner ranks in {len(self.rounds)} "
            "rounds"
        ]
        for rank, load in enumerate(self.loads):
            lines.append(f"  rank {rank}: {counts[rank]} modules, {load / total:.1%} of the work")
        return "\n".join(lines)


def plan_owners(shapes: Mapping[str, tuple[int, int]], world_size: int) -> Plan:
    """Give the costliest module to the least loaded rank, ties by name and by rank.

    Longest processing time first. A function of its arguments alone, so every rank holds the same
    plan without a message.

    Args:
        shapes: module name -> (M, N).
        world_size: ranks that can own a module.
    """
    if world_size < 1:
        raise ValueError(f"world_size is {world_size}, must be at least 1")
    costs = {shape: module_cost(shape) for shape in set(shapes.values())}
    owned: list[list[str]] = [[] for _ in range(world_size)]
    owners: dict[str, int] = {}
    least_loaded = [(0.0, rank) for rank in range(world_size)]  # a heap
    for name in sorted(shapes, key=lambda name: (-costs[shapes[name]], name)):
        load, rank = least_loaded[0]
        heapq.heapreplace(least_loaded, (load + costs[shapes[name]], rank))
        owned[rank].append(name)
        owners[name] = rank
    depth = max(map(len, owned))
    rounds = tuple(
        tuple(names[r] if r < len(names) else None for names in owned) for r in range(depth)
    )
    loads = {rank: load for load, rank in least_loaded}
    return Plan(owners, rounds, tuple(loads[rank] for rank in range(world_size)))
