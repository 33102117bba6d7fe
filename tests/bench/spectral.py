"""Times the estimators against svdvals and against plain loops, on one thread.

Repeats are interleaved; figures are medians with quartiles. On the CPU the clock is process time,
which other processes do not disturb much; on a GPU it is wall time around a synchronised call. A
figure includes all of `estimate` (prescale, Gram, eigenvalues, guards, fit); svdvals is torch's
alone, so the ratios are modest.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from alphadecay.config import AlphaDecayConfig
from alphadecay.gram_solvers import WithoutSpectrum
from alphadecay.owners import EIGENSOLVE_FLOP_COST
from alphadecay.spectral import FIELDS, Gram, estimate, estimate_from_gram, take_gram
from alphadecay.spectral.moments import SMALLEST, row_by_moments
from alphadecay.spectral.solving import SOLVERS
from alphadecay.spectral.tail_search import search
from tests.bench.common import finish, machine, new_parser, spread

# Hidden and intermediate size of 60M, 135M, 350M and 1B.
LLAMA = ((512, 1376), (768, 2048), (1024, 2736), (2048, 5461))
LLAMA_SHAPES: list[tuple[int, int]] = []
for _hidden, _inner in LLAMA:
    LLAMA_SHAPES += [(_hidden, _hidden), (_inner, _hidden), (_hidden, _inner)]
GPU_SHAPES = [(1024, 1024), (2736, 1024), (2048, 2048), (5461, 2048), (4096, 4096)]
SMOKE_SHAPES = [(64, 64), (172, 64)]
TARGETS = {(2048, 768): 2.2, (1024, 1024): 2.2, (5461, 2048): 2.2, (2048, 2048): 2.8}
LEAST_TARGET = 1.7
SAMPLE = 8  # matrices of a stack whose α is compared
STACK_LIMIT = 24 * 4096**2  # entries of a stack: 1.6 GB in float32
SEARCH_TARGET = 10.0
Job = Callable[[], object]


def clock(job: Job, cuda: bool) -> float:
    """Return the seconds of one call."""
    if not cuda:
        start = time.process_time()
        job()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    job()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def interleave(jobs: dict[str, Job], repeats: int, cuda: bool) -> dict[str, Any]:
    """Run each job in turn, `repeats` times over after one warm-up.

    Ratios are of the first job's time to the others', repeat by repeat.
    """
    for job in jobs.values():
        job()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            times[name].append(clock(job, cuda))
    base = next(iter(jobs))
    ratios = {}
    for name in list(jobs)[1:]:
        pairs = zip(times[base], times[name], strict=True)
        ratios[name] = [first / max(other, 1e-9) for first, other in pairs]
    return {
        "seconds": {name: spread(values) for name, values in times.items()},
        f"{base}_over": {name: spread(values) for name, values in ratios.items()},
    }


def spectral_jobs(weight: torch.Tensor) -> dict[str, Job]:
    return {
        "svdvals": lambda: torch.linalg.svdvals(weight),
        "gram_float32": lambda: estimate(weight),
        "gram_float64": lambda: estimate(weight, precision=torch.float64),
        "farms": lambda: estimate(weight, method="farms"),
    }


def bench_shape(shape: tuple[int, int], repeats: int, device: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator) * torch.linspace(0.3, 1.0, shape[1])
    weight = weight.to(device)
    result = interleave(spectral_jobs(weight), repeats, device == "cuda")
    exact = estimate(weight.double(), method="svd", precision=torch.float64)[0]
    errors = {
        str(dtype).removeprefix("torch."): abs(estimate(weight, precision=dtype)[0] - exact).item()
        for dtype in (torch.float32, torch.float64)
    }
    return {
        "shape": list(shape),
        "target": TARGETS.get(shape, LEAST_TARGET),
        "alpha_error": errors,
        **result,
    }


def bench_cost(shape: tuple[int, int], repeats: int, device: str) -> dict[str, Any]:
    """Compare the time of one flop of eigvalsh with that of one of the Gram product.

    The ratio is what alphadecay.owners.EIGENSOLVE_FLOP_COST stands for, on one CPU thread.
    """
    rows, columns = sorted(shape)
    weight_NM = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).to(device)
    gram_NN = weight_NM @ weight_NM.T
    jobs: dict[str, Job] = {
        "eigvalsh": lambda: torch.linalg.eigvalsh(gram_NN),
        "gram": lambda: weight_NM @ weight_NM.T,
    }
    seconds = interleave(jobs, repeats, device == "cuda")["seconds"]
    eigvalsh = seconds["eigvalsh"]["median"] / (4 / 3 * rows**3)
    gram = seconds["gram"]["median"] / (2 * columns * rows**2)
    cost = eigvalsh / gram
    print(
        f"{columns}x{rows}: a flop of eigvalsh takes {cost:.1f} x one of the Gram product (the "
        f"plan reckons with {EIGENSOLVE_FLOP_COST:.1f})",
        flush=True,
    )
    return {"shape": list(shape), "flop_cost": cost, "seconds": seconds}


def plain_loop(values: np.ndarray) -> int:
    """Fit as it is usually written: goodness of fit of every cut-off in turn."""
    logs = np.log(values)
    size = len(values)
    distances = np.ones(size - 1)
    for index in range(size - 1):
        count = size - index
        alpha = 1 + count / (logs[index:].sum() - count * logs[index])
        model = 1 - (values[index:] / values[index]) ** (1 - alpha)
        distances[index] = np.abs(model - np.arange(count) / count).max()
    return int(distances.argmin())


def torch_loop(values: torch.Tensor) -> int:
    """Fit as `plain_loop` does, in torch, which pays for every small operation.

    An estimator written on tensors does the same.
    """
    logs = values.log()
    size = len(values)
    distances = torch.ones(size - 1, dtype=values.dtype)
    for index in range(size - 1):
        count = size - index
        alpha = 1 + count / (logs[index:].sum() - count * logs[index])
        model = 1 - (values[index:] / values[index]) ** (1 - alpha)
        distances[index] = (model - torch.arange(count, dtype=values.dtype) / count).abs().max()
    return int(distances.argmin())


def bench_search(size: int, repeats: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    values = torch.linalg.eigvalsh(
        torch.cov(torch.randn(size, 2 * size, generator=generator, dtype=torch.float64))
    )
    plain = values.numpy()
    jobs: dict[str, Job] = {
        "loop": lambda: torch_loop(values),
        "numpy_loop": lambda: plain_loop(plain),
        "pruned": lambda: search(values, finger=False, published=False),
    }
    result = interleave(jobs, repeats, cuda=False)
    same = float(plain[plain_loop(plain)]) == search(values, finger=False, published=False)[1]
    return {"n": size, "target": SEARCH_TARGET, "same_cutoff": same, **result}


def bench_stack(side: int, count: int, repeats: int, device: str) -> dict[str, Any]:
    """Compare ways through a stack of square matrices, and say how far moments are off.

    each, stacked: the eigenvalues in float32, in a call for each matrix and in one for all;
    threads_float64: in float64, by a few host threads; moments: by products alone, in float64 and
    TF32, as many at once as a refresh takes, those in doubt by their eigenvalues.
    """
    stack = torch.randn(count, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    moments = WithoutSpectrum(AlphaDecayConfig(method="moments"), stack.device)
    together = moments.together(side)

    def grams(matrices: torch.Tensor) -> list[Gram]:
        return [take_gram(one, torch.float64) for one in matrices]

    jobs: dict[str, Job] = {
        "each": lambda: torch.stack([estimate(one).pack() for one in stack]),
        "stacked": lambda: estimate(stack),
        "threads_float64": lambda: SOLVERS["threads"](grams(stack), estimate_from_gram),
        "moments": lambda: [moments.rows(grams(part)) for part in stack.split(together)],
    }
    figures = interleave(jobs, repeats, device == "cuda")
    return {"side": side, "count": count, **figures, "moments": accuracy(grams(stack[:SAMPLE]))}


def accuracy(grams: list[Gram]) -> dict[str, float]:
    """Return the share of Grams that moments leave in doubt, and the largest error of the rest."""
    if grams[0].side < SMALLEST:
        return {"in_doubt": 1.0, "alpha_error": 0.0}
    row, doubt = row_by_moments(Gram.stack(grams), published=False)
    exact = torch.stack([estimate_from_gram(gram).alpha for gram in grams])
    errors = torch.where(doubt, 0.0, (row.alpha - exact).abs())
    return {"in_doubt": doubt.double().mean().item(), "alpha_error": errors.max().item()}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__, 7)
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument(
        "--max-side", type=int, default=10**6, help="leave out shapes with a side above this"
    )
    parser.add_argument("--sides", type=int, nargs="+", help="of the matrices of stacks")
    parser.add_argument("--counts", type=int, nargs="+", help="of matrices in a stack")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="tiny shapes, two repeats: seconds, and no figure worth keeping",
    )
    return parser.parse_args(arguments)


def stacks_of(options: argparse.Namespace, cuda: bool) -> list[tuple[int, int]]:
    """Return (side, count) of every stack."""
    if options.smoke:
        return [(16, 4), (SMALLEST, 2)]
    sides = options.sides or ([512, 1024, 2048, 4096] if cuda else [64, 256])
    counts = options.counts or ([8, 24, 96] if cuda else [32])
    fitting = [(side, count) for side in sides for count in counts if side <= options.max_side]
    return [(side, count) for side, count in fitting if side**2 * count <= STACK_LIMIT]


def report(row: dict[str, Any], label: str, base: str, method: str) -> bool:
    ratio = row[f"{base}_over"][method]
    met = ratio["median"] >= row["target"]
    seconds = row["seconds"][method]["median"] * 1e3
    verdict = "met" if met else "MISSED"
    figures = f"{ratio['median']:6.2f}x [{ratio['q1']:.2f}, {ratio['q3']:.2f}]"
    print(
        f"{label:>12} {method:<13}{seconds:10.2f} ms  {figures}  target {row['target']} {verdict}",
        flush=True,
    )
    return met


def main(arguments: list[str] | None = None) -> int:
    """Run and print; the exit status is 1 only with --check."""
    options = parse(arguments)
    torch.set_num_threads(1)
    cuda = options.device == "cuda"
    shapes = GPU_SHAPES if cuda else LLAMA_SHAPES
    if options.smoke:
        shapes = SMOKE_SHAPES
    shapes = [shape for shape in shapes if max(shape) <= options.max_side]
    sizes = [64] if options.smoke else [512, 1024, 2048]
    stacks = stacks_of(options, cuda)
    repeats = 2 if options.smoke else options.repeats
    met = []
    device = torch.cuda.get_device_name() if cuda else "cpu"
    clock_kind = "wall" if cuda else "process"
    results: dict[str, Any] = {
        "machine": machine() | {"device": device, "clock": clock_kind},
        "repeats": repeats,
        "fields": list(FIELDS),
    }
    results["spectra"] = []
    for shape in shapes:
        row = bench_shape(shape, repeats, options.device)
        met.append(report(row, f"{shape[0]}x{shape[1]}", "svdvals", "gram_float32"))
        results["spectra"].append(row)
    results["flop_costs"] = [bench_cost(shape, repeats, options.device) for shape in shapes]
    results["goodness_of_fit"] = [bench_search(size, repeats) for size in sizes]
    met += [
        report(row, f"n={row['n']}", "loop", "pruned") and row["same_cutoff"]
        for row in results["goodness_of_fit"]
    ]
    results["stacks"] = [
        bench_stack(side, count, repeats, options.device) for side, count in stacks
    ]
    return finish(options, results, met)


if __name__ == "__main__":
    sys.exit(main())
