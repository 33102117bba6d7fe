"""Measures what the host pays for a micro step: each engine ÷ the bare model, process time.

On a fast GPU the host is the limit. What it does (Python, hooks, the launching of kernels) can be
seen without one: process time of forward and backward of a model so narrow that its arithmetic is
small, in one process, one gloo rank. The arms live side by side and take turns, in rotating order;
a ratio is taken repeat by repeat against `bare`, and a figure is the median with quartiles. Other
work on the machine hardly disturbs process time.

  bare            the model alone;
  zero1, zero2    DeepSpeed with the shipped configurations;
  zero2_lean      without contiguous_gradients and overlap_comm: the same bits, one copy of each
                  gradient less, but a reduction that waits for the backward pass;
  zero3           the shipped one, with hooks around every module (deepspeed.leaf_layers false);
  zero3_leaf      each decoder layer gathered as a whole, the default;
  fsdp2           the program's other engine;
  ..._compiled    with each layer compiled (model.compile), where there is a compiler.

Kernels are counted, not timed, in one step of the bare model under torch's profiler: operations
that compute something, each of which a GPU would launch at least one kernel for, and the loops that
torch.compile wrote.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor

from tests.bench.common import ENVIRONMENT, ROOT, about, finish, new_parser, rotated, spread
from tests.bench.host_kernels import count_kernels
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.engines import loss_of_text
from train.config import TrainConfig
from train.config.command_line import load_config
from train.engines.build import build_engine as build_any
from train.engines.build import plan_engine
from train.engines.deepspeed import build_engine
from train.engines.ds_config import load_ds_config
from train.engines.protocol import Engine
from train.models.build import build_model
from train.models.kernels import has_compiler

ARMS = ("bare", "zero1", "zero2", "zero2_lean", "zero3", "zero3_leaf", "fsdp2")
COMPILED = tuple(f"{name}_compiled" for name in ("bare", "zero1", "zero2", "zero3_leaf", "fsdp2"))
# Largest ratio to the bare model that is good enough.
TARGETS = {"zero1": 1.10, "zero2": 1.25, "zero3_leaf": 2.3, "fsdp2": 1.9}
WARM_UP = 3
DEADLINE = 3600  # seconds; compiling takes minutes on a busy machine
ROWS = 4
LENGTH = 32
ENDLESS = 10**6  # micro batches of a window: no step comes between
MicroStep = Callable[[Tensor], None]


def arguments_of(name: str, layers: int) -> list[str]:
    """Return the settings of one arm."""
    engine = name.removesuffix("_compiled")
    stage = engine.removeprefix("zero")[:1] if engine.startswith("zero") else "0"
    return [
        "--model.vocab_size=256",
        "--model.hidden_size=64",
        "--model.intermediate_size=172",
        f"--model.num_layers={layers}",
        "--model.num_heads=4",
        f"--model.compile={name.endswith('_compiled')}",
        f"--data.sequence_length={LENGTH}",
        f"--run.global_batch={ROWS * ENDLESS}",
        f"--run.micro_batch={ROWS}",
        "--run.precision=float32",
        f"--deepspeed.config={ROOT}/ds_configs/zero{stage}.json",
        f"--deepspeed.leaf_layers={engine == 'zero3_leaf'}",
        f"--engine.kind={'fsdp2' if engine == 'fsdp2' else 'deepspeed'}",
    ]


def build(name: str, layers: int) -> MicroStep:
    """Return the forward and backward pass of one arm. Collective."""
    config = load_config(arguments_of(name, layers))
    if name.startswith("bare"):
        model = build_model(config.model, LENGTH, seed=1).train()
        return lambda tokens: model(input_ids=tokens, labels=tokens).loss.backward()
    engine = _engine(name, config)

    def micro_step(tokens: Tensor) -> None:
        engine.backward(loss_of_text(engine, tokens))
        engine.step()  # counts the micro batch, and no more

    return micro_step


def _engine(name: str, config: TrainConfig) -> Engine:
    if config.engine.kind == "fsdp2":
        return build_any(config, plan_engine(config, ENDLESS, 1), torch.device("cpu"))
    ds_config = load_ds_config(config, ENDLESS, 1)
    if name == "zero2_lean":
        ds_config["zero_optimization"] |= {"contiguous_gradients": False, "overlap_comm": False}
    return build_engine(config, ds_config)


def bench_rank(
    rank: int, names: tuple[str, ...], layers: int, repeats: int
) -> dict[str, list[float]]:
    """Return the seconds of every arm, repeat by repeat."""
    warnings.filterwarnings("ignore")
    init_deepspeed()
    tokens = torch.randint(256, (ROWS, LENGTH))
    arms = {name: build(name, layers) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    gc.disable()
    for repeat in range(-WARM_UP, repeats):
        for name in rotated(names, repeat):
            start = time.process_time()
            arms[name](tokens)
            if repeat >= 0:
                seconds[name].append(time.process_time() - start)
        gc.collect()
    gc.enable()
    return seconds


def bench(names: tuple[str, ...], layers: int, repeats: int) -> dict[str, Any]:
    [seconds] = run_ranks(1, bench_rank, names, layers, repeats, deadline=DEADLINE)
    ratios = {
        name: [one / bare for one, bare in zip(seconds[name], seconds["bare"], strict=True)]
        for name in names
    }
    return {
        "layers": layers,
        "bare_milliseconds": spread([1e3 * value for value in seconds["bare"]]),
        "over_bare": {name: spread(values) for name, values in ratios.items()},
    }


def report(row: dict[str, Any]) -> list[bool]:
    bare = row["bare_milliseconds"]["median"]
    print(f"{row['layers']} layers, bare {bare:.1f} ms", flush=True)
    met = []
    for name, ratio in row["over_bare"].items():
        judged = ""
        if name in TARGETS:
            met.append(ratio["median"] <= TARGETS[name])
            judged = f"target {TARGETS[name]}: {'met' if met[-1] else 'MISSED'}"
        print(
            f"  {name:<20}{ratio['median']:6.2f}  [{ratio['q1']:.2f}, {ratio['q3']:.2f}]  {judged}",
            flush=True,
        )
    return met


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__, 40)
    parser.add_argument(
        "--layers", type=int, nargs="+", default=[12, 24], help="decoder layers (12 and 24)"
    )
    parser.add_argument(
        "--eager", action="store_true", help="compile nothing, though there is a compiler"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run and print; the exit status is 1 only with --check."""
    options = parse(arguments)
    os.environ.update(ENVIRONMENT | dict(os.environ))
    compiles = has_compiler() and not options.eager
    names = (*ARMS, *COMPILED) if compiles else ARMS
    rows = []
    met: list[bool] = []
    for layers in options.layers:
        rows.append(bench(names, layers, options.repeats))
        met += report(rows[-1])
    of_bare = arguments_of("bare", options.layers[0])
    [kernels] = run_ranks(1, count_kernels, of_bare, compiles, deadline=DEADLINE)
    for name, counts in kernels.items():
        print(f"kernels of a step, {name}: {counts}", flush=True)
    results = {
        **about(__doc__, options, "repeats"),
        "dtype": "float32",
        "tokens": f"{ROWS} x {LENGTH}",
        "targets": TARGETS,
        "engines": rows,
        "kernels": kernels,
    }
    return finish(options, results, met)


if __name__ == "__main__":
    sys.exit(main())
