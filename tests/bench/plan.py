"""Times the plan of owners, which every rank makes for itself, once; and `alphadecay plan`.

Targets: 36 000 experts on 1024 ranks have owners in less than half a second; a whole plan of any
size takes less than a second; the seconds that it gives for a refresh, calibrated here, are within
twice those of a real one under ZeRO-3 on gloo ranks. Those of the constants that are shipped stand
beside them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from alphadecay.inspect.plan.calibrate import calibrate
from alphadecay.inspect.plan.machines import CPU, H200, Machine
from alphadecay.inspect.plan.model import PlannedModel, model_of_config, read_model
from alphadecay.inspect.plan.plan import make_plan, step_of, zero
from alphadecay.owners import plan_owners
from tests.bench.common import ENVIRONMENT, finish, machine, new_parser, spread
from tests.bench.refresh_jobs import SIZES as MODELS
from tests.bench.refresh_jobs import build, clock
from tests.distributed.harness import run_ranks

SIZES = ((168, 8), (36_000, 1024))  # modules and ranks: a dense 1B on a host, experts at scale
TARGET_SECONDS = 0.5
WHOLE = (("llama-60m", 1), ("llama-1b", 64), ("llama-70b", 1024))
WHOLE_TARGET = 1.0  # seconds
WITHIN = 2.0  # planned seconds over a real refresh's, either way
KINDS = (("gate", (768, 2048)), ("up", (768, 2048)), ("down", (2048, 768)), ("q", (4096, 2048)))


def shapes(modules: int) -> dict[str, tuple[int, int]]:
    """Return names as long as those of a model, of three shapes."""
    names = {}
    for index in range(modules):
        kind, shape = KINDS[index % 4]
        names[f"model.layers.{index // 768}.mlp.experts.{kind}_proj[{index}]"] = shape
    return names


def bench(modules: int, ranks: int, repeats: int) -> dict[str, Any]:
    """Time one plan, in seconds."""
    given = shapes(modules)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        plan = plan_owners(given, ranks)
        seconds.append(time.perf_counter() - started)
    return {
        "modules": modules,
        "ranks": ranks,
        "rounds": len(plan.rounds),
        "seconds": spread(seconds),
    }


def whole(size: str, ranks: int, repeats: int) -> dict[str, Any]:
    """Time `alphadecay plan` without the imports and the printing, in seconds."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        model = read_model(size)
        plan = make_plan(model, ranks, zero(3, ranks, True), H200, step_of(model, ranks, H200, 500))
        plan.as_dict()
        seconds.append(time.perf_counter() - started)
    return {"model": size, "ranks": ranks, "seconds": spread(seconds)}


def refresh_seconds(rank: int, size: str, repeats: int) -> list[float]:
    """Return the seconds of refreshes, after one that sets libraries up. Collective."""
    decay = build(size, "float32")
    return [clock(decay.refresh)[0] for _ in range(repeats + 1)][1:]


def against(size: str, ranks: int, repeats: int) -> dict[str, Any]:
    """Compare planned seconds of a refresh with those of real ones, of which the slowest rank's
    count.
    """
    measured = zip(*run_ranks(ranks, refresh_seconds, size, repeats), strict=True)
    real = spread([max(seconds) for seconds in measured])
    model = planned_model(size)
    here = calibrate([module.shape for module in model.modules], torch.device("cpu"))
    planned = {"shipped": _seconds(model, ranks, CPU), "here": _seconds(model, ranks, here)}
    over = {name: seconds / real["median"] for name, seconds in planned.items()}
    return {
        "size": size,
        "ranks": ranks,
        "seconds": real,
        "planned": planned,
        "planned_over_real": over,
    }


def planned_model(size: str) -> PlannedModel:
    """Return the shapes of a model of tests/bench/refresh.py."""
    model = MODELS[size]
    config = {
        "model_type": "llama",
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
    }
    return model_of_config(size, config, size)


def _seconds(model: PlannedModel, ranks: int, figures: Machine) -> float:
    step = step_of(model, ranks, figures, 500)
    return make_plan(model, ranks, zero(3, ranks, False), figures, step).refresh.seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Time each size, and return the exit status."""
    parser = new_parser(__doc__, repeats=7)
    parser.add_argument("--size", nargs="*", choices=MODELS, default=list(MODELS), help="refreshed")
    parser.add_argument("--ranks", nargs="*", type=int, default=[1, 2], help="that refresh it")
    options = parser.parse_args(arguments)
    os.environ.update(ENVIRONMENT)
    torch.set_num_threads(1)
    rows = [bench(modules, ranks, options.repeats) for modules, ranks in SIZES]
    for row in rows:
        print(
            f"{row['modules']} modules on {row['ranks']} ranks: "
            f"{row['seconds']['median'] * 1e3:.1f} ms, {row['rounds']} rounds"
        )
    plans = [whole(size, ranks, options.repeats) for size, ranks in WHOLE]
    for row in plans:
        print(f"{row['model']} on {row['ranks']} ranks: {row['seconds']['median'] * 1e3:.0f} ms")
    real = [against(size, n, options.repeats) for size in options.size for n in options.ranks]
    for row in real:
        over = ", ".join(
            f"{value:.2f} x {name}" for name, value in row["planned_over_real"].items()
        )
        print(f"refresh of {row['size']} on {row['ranks']} ranks, planned over real: {over}")
    met = [row["seconds"]["median"] < TARGET_SECONDS for row in rows]
    met += [row["seconds"]["median"] < WHOLE_TARGET for row in plans]
    met += [1 / WITHIN < row["planned_over_real"]["here"] < WITHIN for row in real]
    results = {
        "machine": machine(),
        "repeats": options.repeats,
        "plans": rows,
        "whole_plans": plans,
        "refreshes": real,
    }
    return finish(options, results, met)


if __name__ == "__main__":
    sys.exit(main())
