"""Tells what fills a rank's memory, part by part, and the most there is at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

import torch

from alphadecay.inspect.plan.memory import Memory, Spread, predict_memory, refresh_bytes
from alphadecay.inspect.run.words import engine_words
from alphadecay.modules import find_modules
from train.config import TrainConfig
from train.config.decay import METHODS
from train.engines.build import EnginePlan
from train.planning.activations import count_activations, evaluation_bytes, loss_bytes
from train.planning.device import GB
from train.planning.spread import spread_of

COPY = "copy for saves"  # the part that checkpoint.asynchronous takes
_DEEPSPEED_BUFFERS = "DeepSpeed's reduction buffers"
_FSDP2_BUFFERS = "FSDP2's all-gather and reduce-scatter buffers"


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
        uncounted: the engine's own buffers, which no part has.
        lasting: what is there all the time.
        training: what a forward and backward pass has beside it.
        refresh: what a refresh has beside it; the activations are gone by then.
        evaluation: what a validation pass has beside it.
    """

    title: str
    uncounted: str
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
        yield "Refresh and validation have no activations beside them. To be added:"
        yield f"{self.uncounted}, the allocator's and the libraries' own."


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
    spread = spread_of(c, plan, model, world_size)
    bf16 = spread.itemsize == 2
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    gathered = min(sum(map(prod, shapes)), spread.live_parameters) * spread.itemsize
    live = (Part("gathered units" if spread.fsdp2 else "gathered", gathered),) if gathered else ()
    rows = c.run.micro_rows
    length = c.positions
    kept = count_activations(c.model, rows, length, bf16)
    loss = loss_bytes(c.model, rows, length, bf16, fused_loss)
    logits = evaluation_bytes(c.model, c.eval.micro_batch or rows, length, bf16)
    return MemoryTable(
        title=(
            f"{_engine(plan, spread, world_size)} on {world_size} ranks, "
            f"{'bf16' if bf16 else 'float32'}, micro batch {rows}"
        ),
        uncounted=_FSDP2_BUFFERS if spread.fsdp2 else _DEEPSPEED_BUFFERS,
        lasting=_lasting(c, predict_memory(shapes, spread), spread),
        training=(*live, Part("activations", kept.layers), Part("logits, loss", loss)),
        refresh=_refresh(c, model, spread),
        evaluation=(Part("validation", logits + gathered),),
    )


def _engine(plan: EnginePlan, spread: Spread, world_size: int) -> str:
    return engine_words({**plan.layout, "engine_shard": spread.ranks, "world_size": world_size})


def _lasting(c: TrainConfig, held: Memory, spread: Spread) -> tuple[Part, ...]:
    parts = [
        Part("weights", held.weights, spread.offload_parameters),
        Part("gradients", held.gradients, spread.offload_optimizer),
        Part("optimizer", held.optimizer, spread.offload_optimizer),
    ]
    if c.checkpoint.asynchronous is not False:
        parts.append(Part(COPY, snapshot_bytes(held, spread), on_host=True))
    return tuple(parts)


def snapshot_bytes(held: Memory, spread: Spread) -> int:
    """Return the most that a rank writes of a checkpoint, which a save copies to the host's memory.

    Under ZeRO 0 to 2 the first rank writes the weights, too; ZeRO-3 writes the masters alone.
    """
    weights = 0 if spread.stage == 3 and not spread.fsdp2 else held.weights
    return weights + held.optimizer


def _refresh(c: TrainConfig, model: torch.nn.Module, spread: Spread) -> tuple[Part, ...]:
    if METHODS[c.decay.method].family != "spectral":
        return ()
    size = refresh_bytes([module.shape for module in find_modules(model)], spread)
    return (Part("refresh", size),)


def _sum(parts: Iterable[Part]) -> int:
    return sum(part.size for part in parts)
