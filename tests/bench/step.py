"""Times a training step between refreshes: AlphaDecay ÷ stock AdamW with one uniform group.

It runs on gloo ranks, ZeRO stages 0 to 3. Several engines live side by side in the same processes
and take turns, in rotating order; --arms says which:

  alphadecay    alphadecay.AdamW bound by AlphaDecay: one group, a decay per module;
  cautious      the same, only where the step does not oppose it;
  llr           the same, a learning rate per module in the decay's place; both, beside it;
  uniform, awd, adadecay, adadecay_parameters, gradient_norm, lawn, hyperball
                alphadecay.AdamW under that method;
  stock         torch.optim.AdamW, one group, one decay;
  stock_again   a second engine like `stock`: its ratio to `stock` is the noise of this machine;
  per_module    torch.optim.AdamW with one group per module, the plain way to give each module its
                decay; by default, as alphadecay.

A time is the slowest rank's. Ratios are taken repeat by repeat against `stock`; a figure is their
median with quartiles. A step has few tokens, so that a CPU can afford it: the optimizer's share,
and any overhead in it, is far larger than in real training.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torch.distributed as dist

from alphadecay import AdamW, AlphaDecay
from alphadecay.baselines.fixed_norms import FixedNorms
from alphadecay.baselines.gradient_decay import GradientDecay
from alphadecay.baselines.uniform import bind_uniform
from alphadecay.modules import find_modules
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
from tests.bench.counting import CountCollectives
from tests.distributed.harness import init_deepspeed, run_ranks
from train.config import ModelConfig
from train.models.build import build_model, count_parameters
from train.system.malloc import keep_freed_memory

ARMS = ("alphadecay", "stock", "stock_again", "per_module")
INTERVAL = 10**9  # no refresh is timed
# what is bound to an engine, by arm
METHODS: dict[str, Callable[[Any], Any]] = {
    "alphadecay": lambda engine: AlphaDecay(engine, interval=INTERVAL),
    "cautious": lambda engine: AlphaDecay(engine, interval=INTERVAL, cautious=True),
    "llr": lambda engine: AlphaDecay(engine, interval=INTERVAL, drives="lr", lr_ramp=0),
    "both": lambda engine: AlphaDecay(engine, interval=INTERVAL, drives="both", lr_ramp=0),
    "uniform": bind_uniform,
    "awd": lambda engine: GradientDecay(engine, rule="awd"),
    "adadecay": lambda engine: GradientDecay(engine, rule="adadecay", interval=INTERVAL),
    "gradient_norm": lambda engine: GradientDecay(engine, rule="gradient_norm", interval=INTERVAL),
    "adadecay_parameters": lambda engine: GradientDecay(engine, rule="adadecay_parameters"),
    "lawn": lambda engine: FixedNorms(engine, rule="lawn", head=True),
    "hyperball": lambda engine: FixedNorms(engine, rule="hyperball"),
}
TARGET = 1.05  # of the other methods, at any size
# The whole step; engine.step() and AlphaDecay.step(); the step's CPU time on all ranks.
CLOCKS = ("step", "engine_step", "cpu")
LR = 1e-4
WEIGHT_DECAY = 0.1


@dataclass(frozen=True)
class Size:
    """A model and the batch of one rank.

    Args:
        target: largest ratio of a whole step of alphadecay to stock that is good enough.
    """

    model: ModelConfig
    rows: int
    length: int
    target: float


TOY = ModelConfig(vocab_size=256, hidden_size=64, intermediate_size=172, num_layers=4, num_heads=4)
SIZES = {
    "toy": Size(TOY, 4, 32, 1.10),
    "60m": Size(ModelConfig(), 1, 32, 1.03),
    "60m-row": Size(ModelConfig(), 1, 256, 1.03),  # a whole row of the recipe's
}


@dataclass
class Arm:
    """One engine, and what is stepped after it where the arm has such."""

    engine: Any
    decay: Any = None

    def forward_backward(self, batch: torch.Tensor) -> None:
        self.engine.backward(self.engine(input_ids=batch, labels=batch).loss)

    def step(self) -> None:
        self.engine.step()
        if self.decay is not None:
            self.decay.step()


def ds_config(stage: int, rows: int, dtype: str = "float32") -> dict[str, Any]:
    """Return a resolved DeepSpeed configuration.

    Every weight matrix is partitioned at stage 3; norm gains persist.
    """
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": rows,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
        "zero_optimization": {"stage": stage},
    }
    if stage == 3:
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 2048
    if dtype == "bfloat16":
        config["bf16"] = {"enabled": True}
    return config


def parameter_groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    """Return one group per module, each with a decay of its own, and one for the rest."""
    modules = find_modules(model)
    taken = {id(module.parameter) for module in modules}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    groups = [
        {"params": [module.parameter], "weight_decay": WEIGHT_DECAY * (1 + index / len(modules))}
        for index, module in enumerate(modules)
    ]
    return [*groups, {"params": rest, "weight_decay": WEIGHT_DECAY}]


def build(name: str, size: Size, stage: int, fused: bool, dtype: str = "float32") -> Arm:
    """Build the engine of one arm. Collective."""
    import deepspeed

    config = ds_config(stage, size.rows, dtype)
    model = build_model(size.model, size.length, seed=7, ds_config=config)
    kind = AdamW if name in METHODS else torch.optim.AdamW
    parameters: Any = parameter_groups(model) if name == "per_module" else list(model.parameters())
    optimizer = kind(parameters, lr=LR, weight_decay=WEIGHT_DECAY, fused=fused or None)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    bound = METHODS[name](engine) if name in METHODS else None
    return Arm(engine, bound if callable(getattr(bound, "step", None)) else None)


def now(device: torch.device) -> float:
    """Return the time, once the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(arm: Arm, batch: torch.Tensor) -> dict[str, float]:
    """Return the seconds of one step on this rank. Collective.

    The ranks meet before each part, untimed.
    """
    dist.barrier()
    cpu = time.process_time()
    start = now(batch.device)
    arm.forward_backward(batch)
    between = now(batch.device)
    dist.barrier()
    middle = now(batch.device)
    arm.step()
    end = now(batch.device)
    return {
        "step": end - middle + between - start,
        "engine_step": end - middle,
        "cpu": time.process_time() - cpu,
    }


def counted(arm: Arm, batch: torch.Tensor) -> dict[str, Any]:
    """Count what one engine.step() calls. Collective."""
    arm.forward_backward(batch)
    optimizer = getattr(arm.engine, "basic_optimizer", None) or arm.engine.optimizer
    inner = optimizer.step
    calls = Counter[str]()

    def step(*args: Any, **kwargs: Any) -> Any:
        calls["optimizer_steps"] += 1
        return inner(*args, **kwargs)

    optimizer.step = step
    try:
        with CountCollectives() as collectives:
            arm.step()
    finally:
        del optimizer.step
    return {
        "groups": len(optimizer.param_groups),
        "optimizer_steps": calls["optimizer_steps"],
        "collectives": sum(collectives.calls.values()),
    }


def bench_rank(
    rank: int, size_name: str, stage: int, repeats: int, fused: bool, names: tuple[str, ...]
) -> dict[str, Any]:
    warnings.filterwarnings("ignore")
    keep_freed_memory()  # as the program does
    init_deepspeed()
    size = SIZES[size_name]
    arms = {name: build(name, size, stage, fused) for name in names}
    generator = torch.Generator().manual_seed(rank)
    batch = torch.randint(0, size.model.vocab_size, (size.rows, size.length), generator=generator)
    times: dict[str, Any] = {name: {clock: [] for clock in CLOCKS} for name in names}
    gc.disable()
    for repeat in range(-2, repeats):  # two to warm up
        for name in rotated(names, repeat):
            seconds = timed(arms[name], batch)
            for clock in CLOCKS if repeat >= 0 else ():
                times[name][clock].append(seconds[clock])
        gc.collect()
    gc.enable()
    calls = {name: counted(arm, batch) for name, arm in arms.items()}
    model = arms["stock"].engine.module
    modules = len(find_modules(model))
    parameters = count_parameters(model)
    return {"times": times, "calls": calls, "modules": modules, "parameters": parameters}


def bench_stage(
    size_name: str, stage: int, ranks: int, repeats: int, fused: bool, names: tuple[str, ...]
) -> dict[str, Any]:
    results = run_ranks(ranks, bench_rank, size_name, stage, repeats, fused, names)
    times = {name: {clock: over_ranks(results, name, clock) for clock in CLOCKS} for name in names}
    stock = times["stock"]
    ratios = {
        name: {clock: ratio(times[name][clock], stock[clock]) for clock in CLOCKS}
        for name in names
        if name != "stock"
    }
    return {
        "stage": stage,
        "modules": results[0]["modules"],
        "parameters": results[0]["parameters"],
        "seconds": {
            name: {clock: spread(times[name][clock]) for clock in CLOCKS} for name in names
        },
        "over_stock": ratios,
        "calls": results[0]["calls"],
    }


def over_ranks(results: list[dict[str, Any]], name: str, clock: str) -> list[float]:
    """Return one figure a repeat: the slowest rank's seconds, or all ranks' CPU time."""
    by_repeat = zip(*(result["times"][name][clock] for result in results), strict=True)
    combine: Callable[[Any], float] = sum if clock == "cpu" else max
    return [combine(seconds) for seconds in by_repeat]


def ratio(seconds: list[float], stock: list[float]) -> dict[str, float]:
    """Return how many times as long as stock an arm takes, repeat by repeat."""
    return spread([arm / base for arm, base in zip(seconds, stock, strict=True)])


def report(row: dict[str, Any], target: float) -> bool:
    over = row["over_stock"]
    for name, ratios in over.items():
        figures = "  ".join(
            f"{clock} {one['median']:6.3f} [{one['q1']:.3f}, {one['q3']:.3f}]"
            for clock, one in ratios.items()
        )
        print(f"stage {row['stage']} {name:<12} over stock: {figures}", flush=True)
    targets = {name: target if name == "alphadecay" else TARGET for name in over if name in METHODS}
    missed = [name for name, most in targets.items() if over[name]["step"]["median"] > most]
    for name, most in targets.items():
        word = "MISSED" if name in missed else "met"
        print(f"stage {row['stage']} {name} target {most}: {word}", flush=True)
    return not missed


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__, 24)
    add_grid(parser, list(SIZES), ["toy", "60m"], [0, 1, 2, 3])
    parser.add_argument("--fused", action="store_true", help="torch's fused kernel in every arm")
    parser.add_argument(
        "--arms",
        choices=[*METHODS, *ARMS[1:]],
        nargs="+",
        default=list(ARMS),
        help=f"what is timed beside stock, which always is (default {' '.join(ARMS)})",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run and print; the exit status is 1 only with --check."""
    options = parse(arguments)
    os.environ.update(ENVIRONMENT | dict(os.environ))
    names = tuple(dict.fromkeys((*options.arms, "stock")))
    how = (options.ranks, options.repeats, options.fused, names)
    sizes, met = run_grid(
        options,
        SIZES,
        lambda name, stage: bench_stage(name, stage, *how),
        report,
        ", few so that a CPU can afford it",
    )
    told = about(__doc__, options, "ranks", "repeats", "fused", "arms")
    return finish(options, told | {"dtype": "float32", "sizes": sizes}, met)


if __name__ == "__main__":
    sys.exit(main())
