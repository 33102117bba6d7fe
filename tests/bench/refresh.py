"""Cost of one refresh under ZeRO-3 on gloo ranks: seconds, bytes on the wire, peak extra memory;
AlphaDecay against two other ways.

  alphadecay          AlphaDecay.refresh(): each matrix goes to one owner, who decomposes it by its Gram matrix;
  published           every rank all-gathers every weight and takes float32 svdvals of all of them;
  gather_with_owners  every rank all-gathers every weight, its owner alone decomposes it, as alphadecay does;
  moving_only         what alphadecay sends, without the decompositions.
Jobs take turns in the same processes. A time is the slowest rank's; ratios are taken repeat by
repeat; figures are medians with quartiles. Bytes are counted where torch dispatches collectives,
what stays on its rank left out: an all-gather sends a slice to each other rank, an all-reduce 2(W -
1)/W of its tensor. Peak extra memory is counted twice: `allocator`, the highest sum of all that
torch's CPU allocator hands out during the job, inside kernels too (from the profiler's memory
events, exact; what the target is about); and `resident`, the rise of the process's peak resident
set over what it was before (Linux; with the BLAS library's own buffers and all else that is not
torch's). For more ranks than were run, the plan gives loads and bytes, and the seconds of one rank
times the largest load an estimate of time.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torch.distributed as dist

from alphadecay import AdamW, AlphaDecay
from alphadecay.owners import plan_owners
from alphadecay.spectral import FIELDS, estimate
from tests.bench.common import ENVIRONMENT, finish, machine, new_parser, spread
from tests.bench.counting import Job, allocator_peak, resident_peak, traffic
from tests.bench.step import LR, WEIGHT_DECAY, ds_config
from tests.distributed.harness import init_deepspeed, run_ranks
from train.config import ModelConfig
from train.model import build_model

# The embedding and the head are no modules; a small vocabulary leaves the matrices that are.
SIZES = {
    "toy": ModelConfig(
        vocab_size=64, hidden_size=64, intermediate_size=172, num_layers=2, num_heads=4
    ),
    "130m": ModelConfig(
        vocab_size=64, hidden_size=768, intermediate_size=2048, num_layers=12, num_heads=12
    ),
}
# At the 130m shapes on two ranks.
TARGETS = {
    "published_over_alphadecay": 5.0,
    "sent_in_total_over_weights": 1.1,
    "peak_extra_over_largest": 2.5,
}
PLANNED_RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def whole(parameter: Any) -> torch.Tensor:
    """A partitioned weight, on every rank. Collective."""
    local = parameter.ds_tensor.detach()
    buffer = torch.empty(local.numel() * dist.get_world_size(), dtype=local.dtype)
    dist.all_gather_into_tensor(buffer, local)
    return buffer[: parameter.ds_numel].view(parameter.ds_shape)


def hill(weight: torch.Tensor) -> float:
    """PL_Alpha_Hill by singular values in float32, the larger half as tail."""
    eigenvalues = torch.linalg.svdvals(weight.float()).square().flip(0)
    n = len(eigenvalues)
    k = n // 2
    return float(1 + k / torch.log(eigenvalues[n - k :] / eigenvalues[n - k - 1]).sum())


def published(decay: AlphaDecay) -> dict[str, float]:
    """Collective."""
    return {name: hill(whole(module.parameter)) for name, module in decay._modules.items()}


def gather_with_owners(decay: AlphaDecay, rank: int) -> None:
    """Collective. Round by round, so that the owners decompose at the same time."""
    rows = {name: torch.zeros(len(FIELDS), dtype=torch.float64) for name in decay._modules}
    for row in decay.plan.rounds:
        mine = None
        for owner, name in enumerate(row):
            if name is not None:
                weight = whole(decay._modules[name].parameter)
                mine = weight if owner == rank else mine
                del weight
        if mine is not None:
            rows[str(row[rank])] = estimate(mine).pack()
    decay._sharding.share(torch.stack(list(rows.values())))
    decay._sharding.agree(list(decay.weight_decays.values()), "decays")


def moving_only(decay: AlphaDecay) -> None:
    """Collective."""
    rounds = [
        [None if name is None else decay._modules[name] for name in row]
        for row in decay.plan.rounds
    ]
    for _ in decay._sharding.deliver(rounds):
        pass


def clock(job: Job) -> tuple[float, float]:
    """Wall and CPU seconds of a job on this rank. Collective where the job is."""
    dist.barrier()
    cpu = time.process_time()
    start = time.perf_counter()
    job()
    return time.perf_counter() - start, time.process_time() - cpu


def build(size: str, dtype: str) -> AlphaDecay:
    """Collective."""
    import deepspeed

    init_deepspeed()
    config = ds_config(3, 1, dtype)
    model = build_model(SIZES[size], 8, seed=7, ds_config=config)
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return AlphaDecay(engine, interval=10**9)


@torch.no_grad()
def bench_rank(rank: int, size: str, dtype: str, repeats: int) -> dict[str, Any]:
    warnings.filterwarnings("ignore")
    decay = build(size, dtype)
    jobs: dict[str, Job] = {
        "alphadecay": decay.refresh,
        "published": lambda: published(decay),
        "gather_with_owners": lambda: gather_with_owners(decay, rank),
        "moving_only": lambda: moving_only(decay),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    theirs = published(decay)
    for name in ("gather_with_owners", "moving_only"):
        jobs[name]()  # the other two have run
    for repeat in range(repeats):
        for name in list(jobs)[:: -1 if repeat % 2 else 1]:
            times[name].append(clock(jobs[name]))
    return {
        "times": times,
        "traffic": {name: traffic(job, rank) for name, job in jobs.items()},
        "allocator": {name: allocator_peak(job) for name, job in jobs.items()},
        "resident": {name: resident_peak(job) for name, job in jobs.items()},
        "shapes": {name: module.shape for name, module in decay._modules.items()},
        "alpha_difference": max(
            abs(decay.alphas[name] / alpha - 1) for name, alpha in theirs.items()
        ),
    }


def times_of(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Slowest rank's wall seconds, all ranks' CPU seconds, and the other jobs' over alphadecay's."""
    jobs = list(results[0]["times"])
    by_repeat = {
        name: list(zip(*(r["times"][name] for r in results), strict=True)) for name in jobs
    }
    wall = {
        name: [max(w for w, _ in ranks) for ranks in repeats] for name, repeats in by_repeat.items()
    }
    cpu = {
        name: [sum(c for _, c in ranks) for ranks in repeats] for name, repeats in by_repeat.items()
    }

    def over(seconds: dict[str, list[float]]) -> dict[str, Any]:
        ours = seconds["alphadecay"]
        return {
            n: spread([a / b for a, b in zip(seconds[n], ours, strict=True)])
            for n in ("published", "gather_with_owners")
        }

    return {
        "seconds": {name: spread(values) for name, values in wall.items()},
        "cpu_seconds_of_all_ranks": {name: spread(values) for name, values in cpu.items()},
        "over_alphadecay": over(wall),
        "cpu_over_alphadecay": over(cpu),
    }


def bench(size: str, ranks: int, dtype: str, repeats: int) -> dict[str, Any]:
    results = run_ranks(ranks, bench_rank, size, dtype, repeats)
    shapes: dict[str, tuple[int, int]] = results[0]["shapes"]
    weights = sum(m * n for m, n in shapes.values()) * getattr(torch, dtype).itemsize
    largest = max(m * n for m, n in shapes.values()) * 4

    def peaks(kind: str) -> dict[str, float | None]:
        every = {name: [r[kind][name] for r in results] for name in results[0][kind]}
        return {
            name: None if None in values else max(values) / largest
            for name, values in every.items()
        }

    return {
        "size": size,
        "ranks": ranks,
        "dtype": dtype,
        "modules": len(shapes),
        "weights_bytes": weights,
        "largest_float32_bytes": largest,
        **times_of(results),
        "bytes_per_rank": {
            name: [r["traffic"][name] for r in results] for name in results[0]["traffic"]
        },
        "sent_in_total_over_weights": {
            n: sum(r["traffic"][n]["sent"] for r in results) / weights
            for n in results[0]["traffic"]
        },
        "peak_extra_over_largest": {kind: peaks(kind) for kind in ("allocator", "resident")},
        "alpha_difference": max(r["alpha_difference"] for r in results),
        "shapes": sorted({tuple(shape) for shape in shapes.values()}),
    }


def planned(
    shapes: Mapping[str, tuple[int, int]], ranks: int, one_rank_seconds: float | None
) -> dict[str, Any]:
    """What the plan says of a number of ranks; bytes in elements, for any dtype."""
    plan = plan_owners(shapes, ranks)
    total = sum(m * n for m, n in shapes.values())
    owned = [0] * ranks
    for name, owner in plan.owners.items():
        owned[owner] += shapes[name][0] * shapes[name][1]
    share = max(plan.loads) / sum(plan.loads)
    return {
        "ranks": ranks,
        "rounds": len(plan.rounds),
        "largest_load": share,
        "speed_up": 1 / share,
        "owners": sum(bool(count) for count in owned),
        "seconds_estimated": None if one_rank_seconds is None else one_rank_seconds * share,
        "most_elements_received": max(owned) * (ranks - 1) / ranks,
        "most_elements_sent": (total - min(owned)) / ranks,
        "sent_in_total_over_weights": (ranks - 1) / ranks,
        "published_sent_in_total_over_weights": ranks - 1,
    }


def growth(size: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The plan for every number of ranks, from the layers' shapes."""
    model = SIZES[size]
    h = model.hidden_size
    i = model.intermediate_size
    layer = {
        "q": (h, h),
        "k": (h, h),
        "v": (h, h),
        "o": (h, h),
        "gate": (i, h),
        "up": (i, h),
        "down": (h, i),
    }
    shapes = {
        f"{index:03}.{name}": shape
        for index in range(model.num_layers)
        for name, shape in layer.items()
    }
    alone = next(
        (
            row["seconds"]["alphadecay"]["median"]
            for row in rows
            if row["size"] == size and row["ranks"] == 1
        ),
        None,
    )
    return [planned(shapes, ranks, alone) for ranks in PLANNED_RANKS]


def report(row: dict[str, Any]) -> bool:
    judged = row["size"] == "130m" and row["ranks"] == 2
    figures = {
        "published_over_alphadecay": row["over_alphadecay"]["published"]["median"],
        "sent_in_total_over_weights": row["sent_in_total_over_weights"]["alphadecay"],
        "peak_extra_over_largest": row["peak_extra_over_largest"]["allocator"]["alphadecay"],
    }
    print(
        f"{row['size']} {row['dtype']}, {row['ranks']} ranks: "
        f"{row['seconds']['alphadecay']['median']:.3f} s",
        flush=True,
    )
    met = []
    for name, value in figures.items():
        met.append(
            value >= TARGETS[name]
            if name == "published_over_alphadecay"
            else value <= TARGETS[name]
        )
        verdict = f"  target {TARGETS[name]} {'met' if met[-1] else 'MISSED'}" if judged else ""
        print(f"  {name:<28}{value:7.2f}{verdict}", flush=True)
    print(
        f"  {'gather_with_owners_over':<28}{row['over_alphadecay']['gather_with_owners']['median']:7.2f}",
        flush=True,
    )
    return all(met) or not judged


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__, 5, " (130m shapes on two ranks)")
    parser.add_argument(
        "--size", choices=list(SIZES), nargs="+", default=list(SIZES), help="models (default all)"
    )
    parser.add_argument(
        "--ranks", type=int, nargs="+", default=[1, 2, 4], help="gloo ranks (default 1 2 4)"
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16"],
        nargs="+",
        default=["float32", "bfloat16"],
        help="of the weights",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run and print; the exit status is 1 only with --check."""
    options = parse(arguments)
    os.environ.update(ENVIRONMENT | dict(os.environ))
    results: dict[str, Any] = {
        "what": " ".join(str(__doc__).split()),
        "machine": machine(),
        "repeats": options.repeats,
        "targets": TARGETS,
    }
    rows = []
    met = []
    for size in options.size:
        for dtype in options.dtype:
            for ranks in options.ranks if dtype == options.dtype[0] else [2]:
                rows.append(bench(size, ranks, dtype, options.repeats))
                met.append(report(rows[-1]))
    results["measured"] = rows
    results["planned"] = {size: growth(size, rows) for size in options.size}
    return finish(options, results, met)


if __name__ == "__main__":
    sys.exit(main())
