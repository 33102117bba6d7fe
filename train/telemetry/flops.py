"""Model FLOPs of a trained token, and the peak they are held against: model FLOPs utilisation (arXiv 2204.02311, appendix B).

Counted is what the model needs, a multiplication and an addition as two, so recomputed activations do not count. Attention counts as
whole rows, without the half that a causal kernel saves, as is usual; the embedding's look-up counts as nothing.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist

from train.config import ModelConfig
from train.world import World

# Dense bf16 TFLOP/s with float32 accumulation, without sparsity, from makers' data sheets; the first name that is a word of the device's.
PEAK_BF16 = {
    "B200": 2250.0,  # NVIDIA DGX B200 data sheet
    "H200": 989.4,  # NVIDIA H200 data sheet
    "GH200": 989.4,  # NVIDIA Grace Hopper data sheet
    "H100 NVL": 835.5,  # NVIDIA H100 data sheet
    "H100 PCIe": 756.5,  # NVIDIA H100 data sheet
    "H100": 989.4,  # NVIDIA H100 data sheet, SXM5
    "H800": 989.4,  # as H100 SXM5
    "A100": 312.0,  # NVIDIA A100 data sheet
    "A800": 312.0,  # as A100
    "L40S": 362.05,  # NVIDIA L40S data sheet
    "L4": 121.0,  # NVIDIA L4 data sheet
    "A40": 149.7,  # NVIDIA A40 data sheet
    "A30": 165.0,  # NVIDIA A30 data sheet
    "A10G": 70.0,  # AWS EC2 G5 documentation
    "A10": 125.0,  # NVIDIA A10 data sheet
    "RTX 4090": 165.2,  # NVIDIA Ada architecture white paper
    "RTX 3090": 71.0,  # NVIDIA Ampere GA102 white paper
    "MI300X": 1307.4,  # AMD MI300X data sheet
    "MI250X": 383.0,  # AMD MI250X data sheet
}
_SIZE = {"cuda": 4096, "cpu": 1024}  # rows and columns of the matrices measured
_REPEATS = 4


@dataclass(frozen=True)
class Peak:
    """What the hardware could do.

    Args:
        tflops: per rank, 1e12 FLOP/s.
        source: where the figure comes from.
    """

    tflops: float
    source: str


def flops_per_token(model: ModelConfig, sequence_length: int) -> float:
    """Forward and backward pass: three times the forward's matmuls."""
    head = model.hidden_size // model.num_heads
    keys = (model.num_kv_heads or model.num_heads) * head
    width = model.hidden_size
    projections = 2 * width * width + 2 * width * keys + 3 * width * model.intermediate_size
    weights = model.num_layers * projections + width * model.vocab_size
    attention = model.num_layers * 2 * width * sequence_length  # scores, and their product with the values
    return 3.0 * 2.0 * (weights + attention)


def find_peak(given: float | Literal["auto"], dtype: torch.dtype, world: World) -> Peak:
    """The peak that MFU is stated against: the one given, a known GPU's, or what a matmul reaches here. Collective.

    Args:
        given: log.peak_tflops.
        dtype: what the model computes in.
    """
    if given != "auto":
        return Peak(float(given), "log.peak_tflops")
    if world.device.type == "cuda" and dtype == torch.bfloat16:
        device = torch.cuda.get_device_name(world.device)
        known = next((name for name in PEAK_BF16 if re.search(rf"\b{name}\b", device)), None)
        if known is not None:
            return Peak(PEAK_BF16[known], f"{device}, dense bf16, data sheet")
    size = _SIZE.get(world.device.type, 1024)
    kind = str(dtype).removeprefix("torch.")
    return Peak(
        measured_tflops(size, dtype, world), f"measured: {kind} matmul of {size} x {size} on {world.device.type}, all ranks at once"
    )


def measured_tflops(size: int, dtype: torch.dtype, world: World) -> float:
    """The best rate of a square matmul, mean over the ranks, which measure together as they train together. Collective."""
    generator = torch.Generator(world.device).manual_seed(0)  # of its own: a resumed run must not draw more than an uninterrupted one
    left, right = (torch.randn(size, size, device=world.device, generator=generator).to(dtype) for _ in range(2))
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
