"""Compares the program's loop with Hugging Face Trainer, by tokens per second.

Model, batch, DeepSpeed configuration and AdamW settings are the same. All arms live in the same
processes, each in a thread of its own that is let run for one iteration at a time, in turn, on all
ranks at once:

  trainer       transformers.Trainer with torch.optim.AdamW, one decay for all;
  uniform       train.loop.trainer.Trainer with the method uniform;
  alphadecay    train.loop.trainer.Trainer with the method alphadecay, between two refreshes
                (tests/bench/refresh.py times those).

An iteration is everything from the start of one step to the start of the next: batch, forward,
backward, optimizer step, logging. Its time is the slowest rank's. Ratios are Trainer's time over
ours, iteration by iteration; a figure is their median with quartiles. CPU time is the ranks' sum,
which other work on the machine disturbs less. The processes are started several times, each time
with another arm built first, for where its memory falls makes an arm faster or slower by some
percent until its process ends; `by_start` has each start's medians. `share_of_matmul` is the
model's FLOPs per second over what float32 matmuls of 1024 x 1024 reach on all ranks at once, just
before. A step has few tokens, so that a CPU can afford it: what a loop adds to the engine's work
weighs more than in real training.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
import tempfile
import warnings
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torch.distributed as dist

from tests.bench.common import (
    ENVIRONMENT,
    about,
    add_grid,
    finish,
    new_parser,
    rotated,
    run_grid,
    spread,
)
from tests.bench.train_arms import SIZES, ours, theirs
from tests.bench.turns import Turn
from tests.distributed.harness import init_deepspeed, run_ranks
from train.cluster.distributed import World
from train.models import spec_of
from train.telemetry.peak import measured_tflops

ARMS = ("trainer", "uniform", "alphadecay")
WARM_UP = 2


def bench_rank(
    rank: int, ranks: int, size_name: str, stage: int, repeats: int, start: int
) -> dict[str, Any]:
    warnings.filterwarnings("ignore")
    init_deepspeed()
    size = SIZES[size_name]
    world = World(rank, rank, ranks, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        turns = {}
        for name in rotated(ARMS, start):
            if name == "trainer":
                turns[name] = Turn(theirs(size, stage, world, Path(folder)))
            else:
                turns[name] = Turn(ours(name, size, stage, world, Path(folder)))
        for turn in turns.values():
            turn.start()
        matmul = measured_tflops(1024, torch.float32, world) * ranks
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ARMS}
        gc.disable()
        for repeat in range(-WARM_UP, repeats):
            for name in rotated(ARMS, repeat):
                dist.barrier()
                seconds = turns[name].step()
                if repeat >= 0:
                    times[name].append(seconds)
            gc.collect()
        gc.enable()
        for turn in turns.values():
            turn.end()
    return {"times": times, "matmul_tflops": matmul}


def bench_stage(
    size_name: str, stage: int, ranks: int, repeats: int, starts: int
) -> dict[str, Any]:
    size = SIZES[size_name]
    by_start = [
        run_ranks(ranks, bench_rank, ranks, size_name, stage, repeats, start)
        for start in range(starts)
    ]
    # A step is every rank's (wall, cpu).
    steps: dict[str, list[Any]] = {name: [] for name in ARMS}
    for results in by_start:
        for name in ARMS:
            steps[name] += zip(*(result["times"][name] for result in results), strict=True)
    times = {name: [max(wall for wall, _ in step) for step in steps[name]] for name in ARMS}
    cpu = {name: [sum(busy for _, busy in step) for step in steps[name]] for name in ARMS}
    tokens = size.rows * size.length * ranks
    matmul = median(results[0]["matmul_tflops"] for results in by_start)
    parts = [
        {name: times[name][first : first + repeats] for name in ARMS}
        for first in range(0, starts * repeats, repeats)
    ]
    flops = spec_of(size.model).flops_per_token(size.model, size.length) * tokens / 1e12
    return {
        "stage": stage,
        "tokens": tokens,
        "matmul_tflops": matmul,
        "tokens_per_second": {
            name: spread([tokens / seconds for seconds in times[name]]) for name in ARMS
        },
        "share_of_matmul": {
            name: spread([flops / seconds / matmul for seconds in times[name]]) for name in ARMS
        },
        "over_trainer": {name: ratio(times, name) for name in ARMS[1:]},
        "over_trainer_in_cpu_time": {name: ratio(cpu, name) for name in ARMS[1:]},
        "by_start": {name: [ratio(part, name)["median"] for part in parts] for name in ARMS[1:]},
    }


def ratio(seconds: dict[str, list[float]], name: str) -> dict[str, float]:
    """Return how many times faster than Trainer an arm is."""
    pairs = zip(seconds["trainer"], seconds[name], strict=True)
    return spread([trainer / arm for trainer, arm in pairs])


def report(row: dict[str, Any], target: float) -> bool:
    for name in ARMS:
        speed = row["tokens_per_second"][name]
        share = row["share_of_matmul"][name]
        print(
            f"stage {row['stage']} {name:<10} {speed['median']:8.0f} tokens/s [{speed['q1']:.0f}, "
            f"{speed['q3']:.0f}]  {share['median']:6.1%} of the machine's matmul rate",
            flush=True,
        )
    for name in ARMS[1:]:
        wall = in_words(row["over_trainer"][name])
        cpu = in_words(row["over_trainer_in_cpu_time"][name])
        starts = [round(figure, 3) for figure in row["by_start"][name]]
        print(
            f"stage {row['stage']} {name} over Trainer: wall {wall}, CPU time {cpu}; "
            f"starts {starts}",
            flush=True,
        )
    met = all(figures["median"] >= target for figures in row["over_trainer"].values())
    word = "met" if met else "MISSED"
    print(f"stage {row['stage']} target {target}: {word}", flush=True)
    return met


def in_words(figures: dict[str, float]) -> str:
    return f"{figures['median']:.3f} [{figures['q1']:.3f}, {figures['q3']:.3f}]"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__, 8)
    parser.add_argument(
        "--starts", type=int, default=3, help="times the processes are started (default 3)"
    )
    add_grid(parser, list(SIZES), ["60m"], [2, 3])
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run and print; the exit status is 1 only with --check."""
    options = parse(arguments)
    os.environ.update(ENVIRONMENT | dict(os.environ))
    sizes, met = run_grid(
        options,
        SIZES,
        lambda name, stage: bench_stage(
            name, stage, options.ranks, options.repeats, options.starts
        ),
        report,
    )
    told = about(__doc__, options, "ranks", "repeats", "starts")
    return finish(options, told | {"dtype": "float32", "sizes": sizes}, met)


if __name__ == "__main__":
    sys.exit(main())
