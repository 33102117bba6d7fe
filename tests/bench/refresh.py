"""Measures one refresh under ZeRO-3 on gloo ranks: seconds, bytes on the wire, peak extra memory.

AlphaDecay takes turns with two other ways, and with its own moves alone:

  alphadecay          AlphaDecay.refresh(): each matrix goes to one owner, who decomposes it by its
                      Gram matrix;
  published           every rank all-gathers every weight and takes float32 svdvals of all of them;
  gather_with_owners  every rank all-gathers every weight, its owner alone decomposes it, as
                      alphadecay does;
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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from alphadecay.owners import plan_owners
from tests.bench.common import ENVIRONMENT, about, finish, new_parser, spread
from tests.bench.refresh_jobs import SIZES, bench_rank
from tests.distributed.harness import run_ranks

# At the 130m shapes on two ranks.
TARGETS = {
    "published_over_alphadecay": 5.0,
    "sent_in_total_over_weights": 1.1,
    "peak_extra_over_largest": 2.5,
}
PLANNED_RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def times_of(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the slowest rank's wall seconds, all ranks' CPU seconds, and ratios of both."""
    wall = {}
    cpu = {}
    for name in results[0]["times"]:
        by_repeat = list(zip(*(result["times"][name] for result in results), strict=True))
        wall[name] = [max(seconds for seconds, _ in ranks) for ranks in by_repeat]
        cpu[name] = [sum(seconds for _, seconds in ranks) for ranks in by_repeat]
    return {
        "seconds": {name: spread(values) for name, values in wall.items()},
        "cpu_seconds_of_all_ranks": {name: spread(values) for name, values in cpu.items()},
        "over_alphadecay": over_alphadecay(wall),
        "cpu_over_alphadecay": over_alphadecay(cpu),
    }


def over_alphadecay(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Divide the other ways' seconds by alphadecay's, repeat by repeat."""
    ratios = {}
    for name in ("published", "gather_with_owners"):
        pairs = zip(seconds[name], seconds["alphadecay"], strict=True)
        ratios[name] = spread([theirs / ours for theirs, ours in pairs])
    return ratios


def bench(size: str, ranks: int, dtype: str, repeats: int) -> dict[str, Any]:
    results = run_ranks(ranks, bench_rank, size, dtype, repeats)
    shapes: dict[str, tuple[int, int]] = results[0]["shapes"]
    elements = [rows * columns for rows, columns in shapes.values()]
    weights = sum(elements) * getattr(torch, dtype).itemsize
    largest = max(elements) * 4

    def peaks(kind: str) -> dict[str, float | None]:
        over_largest: dict[str, float | None] = {}
        for name in results[0][kind]:
            values = [result[kind][name] for result in results]
            over_largest[name] = None if None in values else max(values) / largest
        return over_largest

    jobs = list(results[0]["traffic"])
    sent = {name: [result["traffic"][name]["sent"] for result in results] for name in jobs}
    return {
        "size": size,
        "ranks": ranks,
        "dtype": dtype,
        "modules": len(shapes),
        "weights_bytes": weights,
        "largest_float32_bytes": largest,
        **times_of(results),
        "bytes_per_rank": {name: [result["traffic"][name] for result in results] for name in jobs},
        "sent_in_total_over_weights": {name: sum(sent[name]) / weights for name in jobs},
        "peak_extra_over_largest": {kind: peaks(kind) for kind in ("allocator", "resident")},
        "alpha_difference": max(result["alpha_difference"] for result in results),
        "shapes": sorted({tuple(shape) for shape in shapes.values()}),
    }


def planned(
    shapes: Mapping[str, tuple[int, int]], ranks: int, one_rank_seconds: float | None
) -> dict[str, Any]:
    """Return what the plan says of a number of ranks; bytes in elements, for any dtype."""
    plan = plan_owners(shapes, ranks)
    total = sum(rows * columns for rows, columns in shapes.values())
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
    """Plan every number of ranks, from the layers' shapes."""
    model = SIZES[size]
    hidden = model.hidden_size
    inner = model.intermediate_size
    layer = dict.fromkeys("qkvo", (hidden, hidden))
    layer |= {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}
    shapes = {}
    for index in range(model.num_layers):
        shapes |= {f"{index:03}.{name}": shape for name, shape in layer.items()}
    alone = [row for row in rows if row["size"] == size and row["ranks"] == 1]
    seconds = alone[0]["seconds"]["alphadecay"]["median"] if alone else None
    return [planned(shapes, ranks, seconds) for ranks in PLANNED_RANKS]


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
        larger_is_better = name == "published_over_alphadecay"
        good = value >= TARGETS[name] if larger_is_better else value <= TARGETS[name]
        met.append(good)
        word = "met" if good else "MISSED"
        verdict = f"  target {TARGETS[name]} {word}" if judged else ""
        print(f"  {name:<28}{value:7.2f}{verdict}", flush=True)
    gathered = row["over_alphadecay"]["gather_with_owners"]["median"]
    print(f"  {'gather_with_owners_over':<28}{gathered:7.2f}", flush=True)
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
        **about(__doc__, options, "repeats"),
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
