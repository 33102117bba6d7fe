"""Finds the peak that model FLOPs utilisation is stated against."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist

from alphadecay.inspect.plan.known_peaks import CARDS, card_named
from train.cluster.distributed import World

_SIZE = {"cuda": 4096, "cpu": 1024}  # rows and columns of the matrices measured
_REPEATS = 4


@dataclass(frozen=True)
class Peak:
    """The rate that the hardware could reach.

    Args:
        tflops: per rank, 1e12 FLOP/s.
        source: where the figure comes from.
    """

    tflops: float
    source: str


def find_peak(given: float | Literal["auto"], dtype: torch.dtype, world: World) -> Peak:
    """Return the peak that is given, a known GPU's, or what a matmul reaches here. Collective.

    Args:
        given: log.peak_tflops.
        dtype: what the model computes in.
    """
    if given != "auto":
        return Peak(float(given), "log.peak_tflops")
    if world.device.type == "cuda" and dtype == torch.bfloat16:
        device = torch.cuda.get_device_name(world.device)
        known = card_named(device)
        if known is not None:
            return Peak(CARDS[known].tflops, f"{device}, dense bf16, data sheet")
    size = _SIZE.get(world.device.type, 1024)
    kind = str(dtype).removeprefix("torch.")
    source = f"measured: {kind} matmul of {size} x {size} on {world.device.type}, all ranks at once"
    return Peak(measured_tflops(size, dtype, world), source)


def measured_tflops(size: int, dtype: torch.dtype, world: World) -> float:
    """Return the best rate of a square matmul, the mean over the ranks. Collective.

    The ranks measure together, as they train together.
    """
    # A generator of its own: a resumed run must not draw more than an uninterrupted one.
    generator = torch.Generator(world.device).manual_seed(0)
    left = torch.randn(size, size, device=world.device, generator=generator).to(dtype)
    right = torch.randn(size, size, device=world.device, generator=generator).to(dtype)
    if world.size > 1:
        dist.barrier(group=world.control)
    seconds = min(_timed(left, right) for _ in range(_REPEATS))
    rate = torch.tensor(2.0 * size**3 / seconds / 1e12, dtype=torch.float64)
    if world.size > 1:
        dist.all_reduce(rate, group=world.control)
    return float(rate) / world.size


def _timed(left: torch.Tensor, right: torch.Tensor) -> float:
    cuda = left.device.type == "cuda"
    count = 10 if cuda else 1
    if cuda:
        torch.cuda.synchronize(left.device)
    started = time.perf_counter()
    for _ in range(count):
        left @ right
    if cuda:
        torch.cuda.synchronize(left.device)
    return (time.perf_counter() - started) / count
