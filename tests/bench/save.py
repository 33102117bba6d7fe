"""Times what a save costs the training: the wait for it, and the steps while a file is written.

Two gloo ranks train at the 60M and 350M shapes under each engine, with a batch of little text.
Saves of both kinds take turns in one process, each with a Saver of its own:

  plain         the training waits until all is written, hashed, synced and committed;
  asynchronous  it waits for a copy of the state; `stall` is that and what the commit takes of it.

A stall is the slowest rank's. `beside` is the time of a step while a checkpoint is being written
over that of a step while none is, of one rank, for a writer needs a core that no rank uses: two
cores have one free. Checkpoints go to --folder, which should be a disk.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torch.distributed as dist

from tests.bench.common import ENVIRONMENT, finish, machine, new_parser, rotated, spread
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.engines import loss_of_text
from train import checkpoint
from train.cluster.distributed import World
from train.config import CheckpointConfig, TrainConfig
from train.config.command_line import load_config
from train.engines.build import build_engine, plan_engine
from train.engines.protocol import Engine
from train.models.build import count_parameters
from train.planning.kept_memory import keep_memory_where_ample

KINDS = ("plain", "asynchronous")
ENGINES = {
    "deepspeed": ("--engine.kind=deepspeed", "--deepspeed.config=ds_configs/zero2.json"),
    "fsdp2": ("--engine.kind=fsdp2",),
}
VOCABULARY = 100  # tokens that the text is of; no size has fewer
# Recipes' shapes; toy is for a rehearsal.
SIZES: dict[str, tuple[str, ...]] = {
    "toy": (
        "--config=llama_60m",
        f"--model.vocab_size={VOCABULARY}",
        "--model.hidden_size=32",
        "--model.intermediate_size=60",
        "--model.num_heads=2",
    ),
    "60m": ("--config=llama_60m",),
    "350m": ("--config=llama_350m",),
}
LENGTH = 32  # tokens of a rank's step
STALL = 0.1  # of the plain save's wait, at most
BESIDE = 1.1  # of a step's time, at most
HOURS = 2  # until the ranks are given up


class Loop:
    """One engine that trains, and the two kinds of saves."""

    def __init__(self, config: TrainConfig, world: World, folder: Path) -> None:
        self.world = world
        plan = plan_engine(config, 1, world.size)
        self.engine: Engine = build_engine(config, plan, world.device)
        self.savers = {
            kind: checkpoint.Saver(
                CheckpointConfig(keep=1, asynchronous=kind == "asynchronous"),
                folder / kind,
                self.engine,
                {},
                world,
            )
            for kind in KINDS
        }
        self._steps = 0
        rows, length = config.run.micro_batch, config.positions
        self._rows = torch.arange(rows * length, device=world.device).view(rows, length)

    def step(self) -> float:
        """Take one step as the program does, and return its seconds, the slowest rank's."""
        rows = (self._rows + self._steps) % VOCABULARY
        self._steps += 1
        return self.slowest(lambda: self._step(rows))

    def save(self, kind: str) -> float:
        """Save, train on until that is committed, and return the seconds that it stalled."""
        saver = self.savers[kind]
        state = {"step": self._steps}
        stall = self.slowest(lambda: saver.save(self._steps, state))
        while saver.step_in_flight >= 0:
            self.step()
            if self.all_over(saver):
                stall += self.slowest(saver.advance)
        assert saver.outcomes.failures == 0
        return stall

    def steps_beside(self) -> list[float]:
        """Return the seconds of steps that were taken while a checkpoint was being written."""
        saver = self.savers["asynchronous"]
        saver.save(self._steps, {"step": self._steps})
        seconds = [self.step()]
        while not self.all_over(saver):
            seconds.append(self.step())
        saver.settle()
        return seconds[:-1] or seconds  # the last may have outlived the writing

    def slowest(self, action: Callable[[], object]) -> float:
        """Return the seconds that an action takes the slowest rank."""
        self.world.barrier()
        began = time.perf_counter()
        action()
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)
        seconds = torch.tensor(time.perf_counter() - began, dtype=torch.float64)
        dist.all_reduce(seconds, op=dist.ReduceOp.MAX, group=self.world.control)
        return float(seconds)

    def all_over(self, saver: checkpoint.Saver) -> bool:
        """Return whether every rank's part of the save in flight is over."""
        over = torch.tensor(float(saver.part_is_over()))
        dist.all_reduce(over, group=self.world.control)
        return float(over) == self.world.size

    def _step(self, rows: torch.Tensor) -> None:
        loss = loss_of_text(self.engine, rows)
        self.engine.backward(loss)
        self.engine.step()


def bench_rank(
    rank: int, ranks: int, size: str, engine: str, repeats: int, folder: str
) -> dict[str, Any]:
    """Return the stalls by kind; of one rank also the seconds of steps, beside a save and not."""
    warnings.filterwarnings("ignore")
    init_deepspeed()
    world = World(rank, rank, ranks, torch.device("cpu"), dist.new_group(backend="gloo"))
    arguments = [
        *SIZES[size],
        *ENGINES[engine],
        "--run.precision=float32",
        f"--run.global_batch={ranks}",
        "--run.micro_batch=1",
        f"--data.sequence_length={LENGTH}",
        "--model.activation_checkpointing=false",
    ]
    found: dict[str, Any] = {kind: [] for kind in KINDS} | {"beside": [], "alone": []}
    with contextlib.redirect_stdout(sys.stderr):
        loop = Loop(load_config(arguments), world, Path(folder))
        keep_memory_where_ample(count_parameters(loop.engine.module), world)  # as the program does
        gc.disable()
        for repeat in range(-1, repeats):  # the first makes moments, processes and memory
            loop.step()
            if ranks == 1:
                beside = loop.steps_beside()
                alone = [loop.step() for _ in beside]
                found["beside"] += beside if repeat >= 0 else []
                found["alone"] += alone if repeat >= 0 else []
                continue
            for kind in rotated(KINDS, repeat):
                stall = loop.save(kind)
                found[kind] += [stall] if repeat >= 0 else []
            gc.collect()
        gc.enable()
        for saver in loop.savers.values():
            saver.close()
    return found


def bench(size: str, engine: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one engine at one size."""
    found: dict[str, Any] = {}
    for ranks in (2, 1):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            arguments = (ranks, size, engine, options.repeats, folder)
            (own, *_) = run_ranks(ranks, bench_rank, *arguments, deadline=3600 * HOURS)
        found |= {name: seconds for name, seconds in own.items() if seconds}
    stalls = [late / plain for plain, late in zip(*(found[kind] for kind in KINDS), strict=True)]
    alone = median(found["alone"])
    return {
        "engine": engine,
        "plain_seconds": spread(found["plain"]),
        "asynchronous_seconds": spread(found["asynchronous"]),
        "stall": spread(stalls),
        "step_seconds": alone,
        "steps_beside": len(found["beside"]),
        "beside": spread([seconds / alone for seconds in found["beside"]]),
        "slowest_beside": max(found["beside"]) / max(found["alone"]),
    }


def report(size: str, row: dict[str, Any]) -> bool:
    """Print a row; return whether it meets the targets."""
    beside = max(row["beside"]["median"], row["slowest_beside"])
    met = row["stall"]["median"] <= STALL and beside <= BESIDE
    print(
        f"{size} {row['engine']:<10} plain {row['plain_seconds']['median']:.2f} s  asynchronous "
        f"{row['asynchronous_seconds']['median']:.3f} s  stall {row['stall']['median']:.3f} "
        f"(target {STALL})  step beside a save {row['beside']['median']:.3f} x, the slowest "
        f"{row['slowest_beside']:.3f} x of the slowest without (target {BESIDE})  "
        f"{'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = new_parser(__doc__, 5)
    parser.add_argument("--size", nargs="+", choices=list(SIZES), default=["60m", "350m"])
    parser.add_argument("--engine", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--folder", type=Path, help="where checkpoints go (default: a temporary)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run and print; the exit status is 1 only with --check."""
    options = parse(arguments)
    os.environ.update(ENVIRONMENT | dict(os.environ))
    results: dict[str, Any] = {
        "what": " ".join(str(__doc__).split()),
        "machine": machine(),
        "repeats": options.repeats,
        "targets": {"stall": STALL, "beside": BESIDE},
        "sizes": {},
    }
    met = []
    for size in options.size:
        rows = [bench(size, engine, options) for engine in options.engine]
        met += [report(size, row) for row in rows]
        results["sizes"][size] = rows
    return finish(options, results, met)


if __name__ == "__main__":
    sys.exit(main())
