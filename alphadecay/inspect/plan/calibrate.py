"""Measures the machine at hand for plans: products, eigenvalues by side, and matrix products as a
training step has them; in seconds, not minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from alphadecay.calibration import Clock, device_clock, known_ways
from alphadecay.inspect.plan.known_peaks import ASSUMED_MFU
from alphadecay.inspect.plan.machines import CPU, H200, Machine
from alphadecay.spectral import EstimateRow, Gram, estimate_from_gram, take_gram
from alphadecay.spectral.solving import SOLVERS, Way

# Larger sides are reckoned from this one: a CPU takes a third of a second for it, a GPU two.
LARGEST_SIDE = {"cpu": 2048, "cuda": 8192}
MOST_SIDES = 4
_TRAINED_SIDE = {"cpu": 1024, "cuda": 8192}  # of the product that stands for a training step
_TAKES = 3  # of which the fastest counts: what disturbs only adds


def calibrate(shapes: Iterable[tuple[int, int]], device: torch.device) -> Machine:
    """Measure a device with the sides of a model's modules.

    Args:
        shapes: (M, N) of the modules.
        device: CPU or CUDA.
    """
    clock = device_clock(device) if device.type == "cuda" else time.perf_counter
    sides = measured_sides(shapes, LARGEST_SIDE[device.type])
    squares = [(side, side) for side in sides]
    ways = known_ways(squares, device) if device.type == "cuda" else {}
    taken = {
        side: _gram_seconds(side, ways.get((side, side), Way()), device, clock) for side in sides
    }
    solved = {
        side: _solve_seconds(side, ways.get((side, side), Way()), device, clock) for side in sides
    }
    largest = sides[-1]
    shipped = H200 if device.type == "cuda" else CPU
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
    return replace(
        shipped,
        name=name,
        products=2.0 * largest**3 / taken[largest],
        eigenvalues=solved,
        training=ASSUMED_MFU * _product_rate(device, clock),
        source=(
            f"{name}, measured now at sides {', '.join(map(str, sides))}; assumed and not "
            f"measured: {shipped.link / 1e9:.3g} GB/s a rank, {shipped.latency * 1e6:.3g} us a "
            f"collective, {ASSUMED_MFU:.0%} of the product's rate in training"
        ),
    )


def measured_sides(shapes: Iterable[tuple[int, int]], largest: int) -> list[int]:
    """Return the sides to measure, ascending: the smaller ones of the shapes, a few of them, the
    least and the largest that there is time for among them.
    """
    sides = sorted({min(min(shape), largest) for shape in shapes})
    if len(sides) <= MOST_SIDES:
        return sides
    step = (len(sides) - 1) / (MOST_SIDES - 1)
    return [sides[round(place * step)] for place in range(MOST_SIDES)]


def _weight(side: int, device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((side, side), generator=generator).to(device)


def _gram_seconds(side: int, way: Way, device: torch.device, clock: Clock) -> float:
    weight_NN = _weight(side, device)
    return _fastest(lambda: take_gram(weight_NN, way.precision), clock)


def _solve_seconds(side: int, way: Way, device: torch.device, clock: Clock) -> float:
    """Return the seconds of one, where as many are solved together as a refresh does."""
    gram = take_gram(_weight(side, device), way.precision)
    grams = [gram] * way.together
    return _fastest(lambda: SOLVERS[way.solver](grams, _solve), clock) / len(grams)


def _solve(gram: Gram) -> EstimateRow:
    return estimate_from_gram(gram)


def _product_rate(device: torch.device, clock: Clock) -> float:
    side = _TRAINED_SIDE[device.type]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    matrix_NN = _weight(side, device).to(dtype)
    return 2.0 * side**3 / _fastest(lambda: matrix_NN @ matrix_NN, clock)


def _fastest(work: Callable[[], object], clock: Clock) -> float:
    """Return the seconds of the fastest of a few, after one that sets libraries up."""
    work()
    seconds = []
    for _ in range(_TAKES):
        started = clock()
        work()
        seconds.append(clock() - started)
    return min(seconds)
