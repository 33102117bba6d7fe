"""Tells which sizes a run would have on a device, and what fills a rank's memory then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap

from train.config import TrainConfig
from train.config.validate import accumulation_steps
from train.engines.build import EnginePlan, plan_engine, why_engine
from train.errors import Problems
from train.planning.auto import choose
from train.planning.device import Device
from train.planning.earlier import earlier_size
from train.planning.memory_table import MemoryTable
from train.planning.sizes import Sizes, leaves_open

_WIDTH = 100  # of a line


@dataclass(frozen=True)
class Planned:
    """The sizes of a run that is not run.

    Args:
        config: without auto, unless nothing fits.
        line: what auto took and why; empty where nothing was auto.
        accumulation: micro batches of a step; None where the batch cannot be shared out.
        engine: its plan; None where there can be none.
        memory: of a rank; None without a DeepSpeed configuration.
    """

    config: TrainConfig
    line: str = ""
    accumulation: int | None = None
    engine: EnginePlan | None = None
    memory: MemoryTable | None = None

    def lines(self) -> Iterator[str]:
        """Yield what auto took, the engine first, and the table of memory."""
        yield from wrap(why_engine(self.config), _WIDTH, subsequent_indent="  ")
        if self.line:
            yield self.line
        if self.memory:
            yield from self.memory.lines()


def plan_sizes(c: TrainConfig, ranks: int, device: Device, problems: Problems) -> Planned:
    """Return the sizes of a run on a device; note what is wrong with them."""
    line = ""
    if leaves_open(c):
        choice = problems.attempt(lambda: choose(c, ranks, device, earlier_size(c)))
        if choice is None:
            return Planned(c)
        c = choice.config
        line = choice.line
    accumulation = problems.attempt(lambda: accumulation_steps(c, ranks))
    if accumulation is None:
        return Planned(c, line)
    engine = problems.attempt(lambda: plan_engine(c, accumulation, ranks))
    if engine is None:
        return Planned(c, line, accumulation)
    return Planned(c, line, accumulation, engine, Sizes(c, ranks, device).table(c))
