"""Tells what fills a rank's memory, part by part, and the most there is at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

import torch

from alphadecay.modules import WeightModule, find_modules
from train.config import TrainConfig
from train.config.decay import METHODS
from train.engines.build import EnginePlan
from train.planning.activations import count_activations, evaluation_bytes, loss_bytes
from train.planning.device import GB
from train.planning.memory import (
    Memory,
    Sharding,
    predict_memory,
    sharding_of,
    snapshot_bytes,
)

COPY = "copy for saves"  # the part that checkpoint.asynchronous takes


@dataclass(frozen=True)
class Part:
    """One use of a rank's memory.

    Args:
        name: what it holds.
        size: bytes.
        on_host: whether it lies in the host's memory, not the device's.
    """

    name: str
    size: int
    on_host: bool = False


@dataclass(frozen=True)
class MemoryTable:
    """The uses of a rank's memory.

    Args:
        title: how the model is spread and computed.
        lasting: what is there all the time.
        training: what a forward and backward pass has beside it.
        refresh: what a refresh has beside it; the activations are gone by then.
        evaluation: what a validation pass has beside it.
    """

    title: str
    lasting: tuple[Part, ...]
    training: tuple[Part, ...]
    refresh: tuple[Part, ...]
    evaluation: tuple[Part, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, in the order of a table."""
        return (*self.lasting, *self.training, *self.refresh, *self.evaluation)

    @property
    def stays(self) -> int:
        """Bytes on the device all the time."""
        return _sum(part for part in self.lasting if not part.on_host)

    @property
    def on_host(self) -> int:
        """Bytes in the host's memory."""
        return _sum(part for part in self.lasting if part.on_host)

    @property
    def in_steps(self) -> int:
        """The most bytes on the device at once in steps and refreshes."""
        return self.stays + max(_sum(self.training), _sum(self.refresh))

    @property
    def in_evaluation(self) -> int:
        """The most bytes on the device at once in a validation."""
        return self.stays + _sum(self.evaluation)

    @property
    def peak(self) -> int:
        """The most bytes on the device at once, whatever the run does."""
        return max(self.in_steps, self.in_evaluation)

    def lines(self) -> Iterator[str]:
        """Yield the table."""
        yield f"Memory per rank, {self.title}"
        for part in self.parts:
            host = "  in host memory" if part.on_host else ""
            yield f"  {part.name:<16}{part.size / GB:>10,.3f} GB{host}"
        yield f"  {'largest sum':<16}{self.peak / GB:>10,.3f} GB"
        if any(part.name == COPY for part in self.lasting):
            yield "Without room for the copies in the hosts' memory, saves make the training wait."
        yield "Refresh and validation have no activations beside them. To be added: DeepSpeed's"
        yield "reduction buffers, the allocator's and the libraries' own."


def memory_table(
    c: TrainConfig,
    model: torch.nn.Module,
    plan: EnginePlan,
    world_size: int,
    fused_loss: bool,
) -> MemoryTable:
    """Return the memory of one rank, from shapes alone.

    Args:
        fused_loss: the loss is computed without the logits in memory.
    """
    sharding = sharding_of(c, plan, model, world_size)
    bf16 = sharding.itemsize == 2
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    gathered = min(sum(map(prod, shapes)), sharding.live_parameters) * sharding.itemsize
    live = (Part("gathered", gathered),) if gathered else ()
    rows = c.run.micro_rows
    length = c.data.sequence_length
    kept = count_activations(c.model, rows, length, bf16)
    loss = loss_bytes(c.model, rows * length, bf16, fused_loss)
    logits = evaluation_bytes(c.model, (c.eval.micro_batch or rows) * length, bf16)
    return MemoryTable(
        title=(
            f"{sharding.name} on {world_size} ranks, {'bf16' if bf16 else 'float32'}, micro "
            f"batch {rows}"
        ),
        lasting=_lasting(c, predict_memory(shapes, sharding), sharding),
        training=(*live, Part("activations", kept.layers), Part("logits, loss", loss)),
        refresh=_refresh(c, model, sharding),
        evaluation=(Part("validation", logits + gathered),),
    )


def _lasting(c: TrainConfig, held: Memory, sharding: Sharding) -> tuple[Part, ...]:
    parts = [
        Part("weights", held.weights, sharding.offload_parameters),
        Part("gradients", held.gradients, sharding.offload_optimizer),
        Part("optimizer", held.optimizer, sharding.offload_optimizer),
    ]
    if c.checkpoint.asynchronous is not False:
        parts.append(Part(COPY, snapshot_bytes(held, sharding), on_host=True))
    return tuple(parts)


def _refresh(c: TrainConfig, model: torch.nn.Module, sharding: Sharding) -> tuple[Part, ...]:
    if METHODS[c.decay.method].family != "spectral":
        return ()
    size = _refresh_bytes(find_modules(model), sharding)
    return (Part("refresh", size),)


def _refresh_bytes(modules: list[WeightModule], sharding: Sharding) -> int:
    """Return the bytes of the largest module on its owner.

    It is gathered (ZeRO-3), in float64 with its Gram matrix and the solver's work space, as a GPU
    takes it that solves by four threads; in float32 it is less (2.2 to 2.7 times the matrix on an
    H200).
    """
    gathered = sharding.itemsize if sharding.stage == 3 else 0
    sizes = []
    for module in modules:
        long, short = max(module.shape), min(module.shape)
        solved = max(8 * long * short + 32 * short * short, 72 * short * short)
        sizes.append(gathered * long * short + solved)
    return max(sizes)


def _sum(parts: Iterable[Part]) -> int:
    return sum(part.size for part in parts)
