"""Chooses what a recipe leaves to the program: the ZeRO file and the micro batch.

It is the least sharding whose memory, as the dry run reckons it, fits the device, then the largest
micro batch that divides the batch of a rank and fits. A run, its dry run and `python -m train
sizing` all ask here.
"""

from __future__ import annotations

from dataclasses import dataclass

from train.cluster.distributed import World
from train.config import TrainConfig
from train.config.run import AUTO
from train.engines.build import leaves_sharding_open
from train.errors import UserError
from train.planning.device import GB, Device, this_device
from train.planning.earlier import earlier_size
from train.planning.memory_table import MemoryTable
from train.planning.sizes import Size, Sizes, in_words, leaves_open


@dataclass(frozen=True)
class Choice:
    """A configuration in which nothing is auto any more, and why.

    Args:
        config: with the sizes that were taken.
        size: the same sizes.
        memory: what they take on a rank.
        line: what was taken and why, for a person.
    """

    config: TrainConfig
    size: Size
    memory: MemoryTable
    line: str


def choose_here(c: TrainConfig, world: World, failures: int = 0) -> Choice | None:
    """Return what `choose` takes for the ranks of a run; None where nothing is auto. Collective.

    Raises:
        UserError: as `choose`, on every rank.
    """
    if not leaves_open(c):
        return None
    device = this_device(world)
    return world.run_on_main(lambda: choose(c, world.size, device, earlier_size(c), failures))


def choose(
    c: TrainConfig, ranks: int, device: Device, earlier: Size | None = None, failures: int = 0
) -> Choice:
    """Return the configuration with every auto replaced.

    Args:
        ranks: that share the model.
        earlier: what the run had before it was interrupted; kept where it can be.
        failures: choices that ran out of memory; each takes the next smaller one.

    Raises:
        UserError: nothing fits, nothing smaller is left, or the batch cannot be shared out.
    """
    sizes = Sizes(c, ranks, device)
    if earlier is not None:
        earlier = _where_open(c, earlier)
    kept = earlier is not None and sizes.can_keep(earlier)
    size = earlier if kept else sizes.first(earlier)
    if size is None:
        raise UserError(sizes.nothing_fits())
    reason = _reason(c, sizes, size, earlier)
    for _ in range(failures):
        reason = f"{in_words(c, size)} ran out of memory"
        smaller = sizes.smaller(size)
        if smaller is None:
            raise UserError(
                f"{reason} on {device}, and there is nothing smaller; try {sizes.advice()}"
            )
        size = smaller
    config = sizes.resolved(size, failures)
    memory = sizes.table(config)
    taken = f"{in_words(c, size)}: about {memory.peak / GB:.3g} GB on {device}"
    return Choice(config, size, memory, f"auto takes {taken}; {reason}")


def _where_open(c: TrainConfig, size: Size) -> Size:
    """Return a size with what the configuration fixes in its place."""
    ds_config = size.ds_config if leaves_sharding_open(c) else c.deepspeed.config
    rows = size.micro_batch if c.run.micro_batch == AUTO else c.run.micro_rows
    return Size(ds_config, rows)


def _reason(c: TrainConfig, sizes: Sizes, size: Size, earlier: Size | None) -> str:
    if size == earlier:
        return "as the run began"
    reason = sizes.why(size)
    if earlier is None:
        return reason
    return f"{reason}; the run began with {in_words(c, earlier)}, which cannot be kept"
