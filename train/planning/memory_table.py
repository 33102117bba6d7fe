"""Tells what fills a rank's memory, part by part, and the most there is at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from alphadecay.modules import WeightModule, find_modules
from train.config import TrainConfig
from train.config.decay import METHODS
from train.planning.activations import count_activations
from train.planning.memory import Sharding, predict_memory, sharding_of

GB = 1e9


@dataclass(frozen=True)
class Part:
    """One use of a rank's memory.

    Args:
        name: what it holds.
        size: bytes.
        on_host: whether it lies in the host's memory, not the device's.
        passing: whether it is there for a part of a step only.
    """

    name: str
    size: int
    on_host: bool = False
    passing: bool = False


@dataclass(frozen=True)
class MemoryTable:
    """The uses of a rank's memory.

    Args:
        title: how the model is spread and computed.
        parts: in the order of a table.
        peak: the most bytes on the device at once: a forward pass or a refresh beside what stays.
    """

    title: str
    parts: tuple[Part, ...]
    peak: int

    def lines(self) -> Iterator[str]:
        """Yield the table."""
        yield f"Memory per rank, {self.title}"
        for part in self.parts:
            host = "  in host memory" if part.on_host else ""
            yield f"  {part.name:<14}{part.size / GB:>10,.3f} GB{host}"
        yield f"  {'largest sum':<14}{self.peak / GB:>10,.3f} GB"
        yield "The refresh has no activations beside it. To be added: DeepSpeed's reduction"
        yield "buffers, the allocator's and the libraries' own."


def memory_table(
    c: TrainConfig, model: torch.nn.Module, ds_config: Mapping[str, Any], world_size: int
) -> MemoryTable:
    """Return the memory of one rank, from shapes alone."""
    sharding = sharding_of(ds_config, world_size)
    bf16 = sharding.itemsize == 2
    forward = _forward_pass(c, bf16)
    refresh = _refresh(c, model, sharding)
    parts = (*_lasting(model, sharding), *forward, *refresh)
    lasting = sum(part.size for part in parts if not part.on_host and not part.passing)
    passing = max(sum(part.size for part in forward), sum(part.size for part in refresh))
    title = (
        f"ZeRO-{sharding.stage} on {world_size} ranks, {'bf16' if bf16 else 'float32'}, micro "
        f"batch {c.run.micro_batch}"
    )
    return MemoryTable(title, parts, lasting + passing)


def _lasting(model: torch.nn.Module, sharding: Sharding) -> tuple[Part, ...]:
    held = predict_memory([tuple(p.shape) for p in model.parameters()], sharding)
    return (
        Part("weights", held.weights, sharding.offload_parameters),
        Part("gradients", held.gradients, sharding.offload_optimizer),
        Part("optimizer", held.optimizer, sharding.offload_optimizer),
    )


def _forward_pass(c: TrainConfig, bf16: bool) -> tuple[Part, ...]:
    kept = count_activations(c.model, c.run.micro_batch, c.data.sequence_length, bf16)
    head = 0 if c.model.fused_cross_entropy else kept.head
    return (
        Part("activations", kept.layers, passing=True),
        Part("logits, loss", head, passing=True),
    )


def _refresh(c: TrainConfig, model: torch.nn.Module, sharding: Sharding) -> tuple[Part, ...]:
    if METHODS[c.decay.method].family != "spectral":
        return ()
    size = _refresh_bytes(find_modules(model), sharding)
    return (Part("refresh", size, passing=True),)


def _refresh_bytes(modules: list[WeightModule], sharding: Sharding) -> int:
    """Return the bytes of the largest module on its owner.

    It is gathered (ZeRO-3), in float32, with its Gram matrix and the solver's copy.
    """
    gathered = sharding.itemsize if sharding.stage == 3 else 0
    sides = [(max(module.shape), min(module.shape)) for module in modules]
    return max((gathered + 4) * long * short + 3 * 4 * short * short for long, short in sides)
