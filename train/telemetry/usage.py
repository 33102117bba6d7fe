"""Adds up what a run takes: memory of the fullest rank, time by part, share of the peak."""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from alphadecay.inspect.run.parts import PARTS, training_seconds
from train.cluster.distributed import World


@dataclass
class Totals:
    """Sums over the whole run, the same on every rank; part of a checkpoint's state.

    Args:
        tokens: real tokens of the steps timed, fill left out.
        flops: model FLOPs of those steps.
        capacity: FLOPs the hardware could have done while training.
        seconds: by part of a step, mean over the ranks.
        memory: bytes by kind, the largest seen on any rank.
    """

    tokens: int = 0
    flops: float = 0.0
    capacity: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    memory: dict[str, float] = field(default_factory=dict)

    def add(
        self,
        tokens: int,
        flops: float,
        capacity: float,
        seconds: Mapping[str, float],
        memory: Mapping[str, float],
    ) -> None:
        """Add a window of steps."""
        self.tokens = self.tokens + tokens
        self.flops = self.flops + flops
        self.capacity = self.capacity + capacity
        for name, value in seconds.items():
            self.seconds[name] += value
        self.memory = {
            name: max(value, self.memory.get(name, 0.0)) for name, value in memory.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from the sums of the run resumed."""
        self.tokens = int(state["tokens"])
        self.flops = float(state["flops"])
        self.capacity = float(state["capacity"])
        self.seconds = {name: float(state["seconds"].get(name, 0.0)) for name in PARTS}
        self.memory = {name: float(value) for name, value in state["memory"].items()}

    def summary(self) -> dict[str, Any]:
        """Return what summary.json says of them; None where nothing was timed."""
        training = training_seconds(self.seconds)
        whole = sum(self.seconds.values())
        shares = {}
        if whole:
            shares = {name: value / whole for name, value in self.seconds.items()}
        return {
            "seconds_training": training,
            "tokens_per_second": self.tokens / training if training else None,
            "mfu": self.flops / self.capacity if self.capacity else None,
            "memory": self.memory,
            "time_shares": shares,
        }


def memory(device: torch.device) -> dict[str, float]:
    """Return the bytes in use on this rank.

    On CUDA they are the most that was allocated and reserved, on a CPU the resident set now and at
    its largest.
    """
    if device.type == "cuda":
        return {
            "peak_allocated_bytes": float(torch.cuda.max_memory_allocated(device)),
            "peak_reserved_bytes": float(torch.cuda.max_memory_reserved(device)),
        }
    unit = 1 if sys.platform == "darwin" else 1024
    peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    now = peak
    statm = Path("/proc/self/statm")
    if statm.exists():
        now = float(int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    return {"resident_bytes": now, "peak_resident_bytes": max(peak, now)}


def over_ranks(
    largest: Mapping[str, float], mean: Mapping[str, float], world: World
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the largest values of one mapping and the mean values of another over the ranks.

    Collective; the same keys on every rank.
    """
    if world.size == 1:
        return dict(largest), dict(mean)
    ranks = world.gather((dict(largest), dict(mean)))
    maxima = {key: max(first[key] for first, _ in ranks) for key in largest}
    means = {key: math.fsum(second[key] for _, second in ranks) / world.size for key in mean}
    return maxima, means
