"""Tokens per second of the program's loop against Hugging Face Trainer: same model, batch,
DeepSpeed configuration and AdamW settings.

All arms live in the same processes, each in a thread of its own that is let run for one iteration
at a time, in turn, on all ranks at once:

  trainer       transformers.Trainer with torch.optim.AdamW, one decay for all;
  uniform       train.loop.trainer.Trainer with the method uniform;
  alphadecay    train.loop.trainer.Trainer with the method alphadecay, between two
                refreshes (tests/bench/refresh.py times those).

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
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import torch.distributed as dist

from tests.bench.common import ENVIRONMENT, finish, machine, new_parser, rotated, spread
from tests.bench.turns import Turn
from tests.distributed.harness import init_deepspeed, run_ranks
from train.checkpoint import Saver
from train.cluster.distributed import World
from train.config import (
    DataConfig,
    DecayConfig,
    LogConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
)
from train.data.loading.rows import Labelled, PackedRows
from train.data.loading.sampler import Batches
from train.engines.deepspeed import build_engine
from train.loop.decay_methods import build_decay
from train.loop.trainer import Trainer
from train.models import spec_of
from train.models.build import build_model
from train.telemetry.peak import measured_tflops
from train.telemetry.telemetry import Telemetry

ARMS = ("trainer", "uniform", "alphadecay")
WARM_UP = 2
ROWS_OF_DATA = 512


@dataclass(frozen=True)
class Size:
    """A model, and the rows and tokens of one rank's step.

    Args: target: smallest ratio of our tokens per second to Trainer's.
    """

    model: ModelConfig
    rows: int
    length: int
    target: float = 1.0


SIZES = {
    "toy": Size(
        ModelConfig(
            vocab_size=256, hidden_size=64, intermediate_size=172, num_layers=2, num_heads=4
        ),
        4,
        32,
    ),
    "60m": Size(ModelConfig(), 4, 128),
}


def ds_config(stage: int, size: Size, ranks: int) -> dict[str, Any]:
    """Resolved, for Trainer and for the program alike."""
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = 2048
    return {
        "train_batch_size": size.rows * ranks,
        "train_micro_batch_size_per_gpu": size.rows,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
        "zero_optimization": zero,
    }


def recipe(size: Size, ranks: int, method: str) -> TrainConfig:
    steps = 10**6
    return TrainConfig(
        model=size.model,
        data=DataConfig(sequence_length=size.length),
        optim=OptimConfig(lr=1e-4, weight_decay=0.1, warmup_steps=0, min_lr_ratio=1.0),
        decay=replace(DecayConfig(), method=method, interval=steps),
        run=RunConfig(
            steps=steps, global_batch=size.rows * ranks, micro_batch=size.rows, precision="float32"
        ),
        log=LogConfig(progress="off", peak_tflops=1.0),
    )


def rows(size: Size) -> PackedRows:
    """Made-up tokens, as the program reads them."""
    tokens = (
        np.random.default_rng(0)
        .integers(0, size.model.vocab_size, ROWS_OF_DATA * size.length)
        .astype(np.uint16)
    )
    return PackedRows(
        SimpleNamespace(tokens=tokens, check_rows=lambda length: len(tokens) // length), size.length
    )  # type: ignore[arg-type]


class Gated(Telemetry):
    """The program's telemetry, with a gate at the start of every step."""

    gate: Callable[[], None]

    def begin(self, step: int) -> None:
        self.gate()
        super().begin(step)


def ours(
    method: str, size: Size, stage: int, world: World, folder: Path
) -> Callable[[Callable[[], None]], None]:
    """The program's loop. Collective."""
    config = recipe(size, world.size, method)
    engine = build_engine(config, ds_config(stage, size, world.size))
    decay = build_decay(config, engine.handle)
    telemetry = Gated(config, folder / method, world, engine, None)
    data = rows(size)
    validation = Labelled(*data.read(np.arange(1)))
    batches = Batches([data], config.run.seed, config.run.global_batch)
    saver = Saver(config.checkpoint, folder / method, engine, {}, world)
    trainer = Trainer(
        config, world, engine, decay, batches, validation, telemetry, {}, folder / method, saver
    )

    def loop(gate: Callable[[], None]) -> None:
        telemetry.gate = gate
        trainer.train()

    return loop


def theirs(
    size: Size, stage: int, world: World, folder: Path
) -> Callable[[Callable[[], None]], None]:
    """Hugging Face Trainer's loop. Collective."""
    import transformers

    config = ds_config(stage, size, world.size)
    optim = recipe(size, world.size, "uniform").optim
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "trainer"),
        deepspeed=config,
        per_device_train_batch_size=size.rows,
        max_steps=10**6,
        use_cpu=True,
        max_grad_norm=1.0,
        logging_steps=LogConfig().every,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
        learning_rate=optim.lr,
        weight_decay=optim.weight_decay,
    )
    model = build_model(size.model, size.length, seed=42, ds_config=config)
    betas = (optim.beta1, optim.beta2)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=optim.lr, betas=betas, eps=optim.eps, weight_decay=optim.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    data = rows(size).read(np.arange(ROWS_OF_DATA))
    dataset = [
        {"input_ids": tokens, "labels": labels} for tokens, labels in zip(*data, strict=True)
    ]

    def loop(gate: Callable[[], None]) -> None:
        class Gate(transformers.TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                assert trainer.deepspeed.zero_optimization_stage() == stage
                gate()

        trainer = transformers.Trainer(
            model=model,
            args=arguments,
            train_dataset=dataset,
            optimizers=(optimizer, schedule),
            callbacks=[Gate()],
        )  # type: ignore[arg-type]
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()

    return loop


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
            made = (
                theirs(size, stage, world, Path(folder))
                if name == "trainer"
                else ours(name, size, stage, world, Path(folder))
            )
            turns[name] = Turn(made)
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
    found = [
        run_ranks(ranks, bench_rank, ranks, size_name, stage, repeats, start)
        for start in range(starts)
    ]
    # Of each arm's steps, every rank's (wall, cpu).
    steps = {
        name: [
            step
            for results in found
            for step in zip(*(r["times"][name] for r in results), strict=True)
        ]
        for name in ARMS
    }
    times = {name: [max(wall for wall, _ in step) for step in steps[name]] for name in ARMS}
    cpu = {name: [sum(busy for _, busy in step) for step in steps[name]] for name in ARMS}
    tokens = size.rows * size.length * ranks
    matmul = median(results[0]["matmul_tflops"] for results in found)
    parts = [
        {name: times[name][i : i + repeats] for name in ARMS}
        for i in range(0, starts * repeats, repeats)
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
    """How many times faster than Trainer."""
    return spread([a / b for a, b in zip(seconds["trainer"], seconds[name], strict=True)])


def report(row: dict[str, Any], target: float) -> bool:
    for name in ARMS:
        speed = row["tokens_per_second"][name]
        share = row["share_of_matmul"][name]
        quartiles = f"[{speed['q1']:.0f}, {speed['q3']:.0f}]"
        line = f"stage {row['stage']} {name:<10} {speed['median']:8.0f} tokens/s {quartiles}"
        print(f"{line}  {share['median']:6.1%} of the machine's matmul rate", flush=True)
    for name in ARMS[1:]:
        wall, cpu = (row[key][name] for key in ("over_trainer", "over_trainer_in_cpu_time"))
        figures = ", ".join(
            f"{what} {r['median']:.3f} [{r['q1']:.3f}, {r['q3']:.3f}]"
            for what, r in (("wall", wall), ("CPU time", cpu))
        )
        print(
            f"stage {row['stage']} {name} over Trainer: {figures}; starts "
            f"{[round(r, 3) for r in row['by_start'][name]]}",
            flush=True,
        )
    met = all(found["median"] >= target for found in row["over_trainer"].values())
    print(f"stage {row['stage']} target {target}: {'met' if met else 'MISSED'}", flush=True)
    return met


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__, 8)
    parser.add_argument(
        "--starts", type=int, default=3, help="times the processes are started (default 3)"
    )
    parser.add_argument(
        "--size",
        choices=list(SIZES),
        nargs="+",
        default=["60m"],
        help="models to time (default 60m)",
    )
    parser.add_argument(
        "--stages",
        type=int,
        nargs="+",
        default=[2, 3],
        choices=[0, 1, 2, 3],
        help="ZeRO stages (default 2 and 3)",
    )
    parser.add_argument("--ranks", type=int, default=2, help="gloo ranks (default 2)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run and print; the exit status is 1 only with --check."""
    options = parse(arguments)
    os.environ.update(ENVIRONMENT | dict(os.environ))
    results: dict[str, Any] = {
        "what": " ".join(str(__doc__).split()),
        "machine": machine(),
        "ranks": options.ranks,
        "repeats": options.repeats,
        "starts": options.starts,
        "dtype": "float32",
        "sizes": {},
    }
    met = []
    for name in options.size:
        size = SIZES[name]
        stages = []
        print(f"{name}: {size.rows} x {size.length} tokens a rank", flush=True)
        for stage in options.stages:
            stages.append(bench_stage(name, stage, options.ranks, options.repeats, options.starts))
            met.append(report(stages[-1], size.target))
        results["sizes"][name] = {
            "tokens": f"{size.rows} x {size.length} a rank and step",
            "target": size.target,
            "stages": stages,
        }
    return finish(options, results, met)


if __name__ == "__main__":
    sys.exit(main())
