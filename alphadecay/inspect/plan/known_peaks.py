"""Lists known GPUs: the peak that model FLOPs utilisation is stated against, and the memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# The share of a peak that plans of GPU hours assume, until a run has measured its own.
ASSUMED_MFU = 0.4


@dataclass(frozen=True)
class Card:
    """The figures of a GPU from its maker's data sheet.

    Args:
        tflops: dense bf16 TFLOP/s with float32 accumulation, without sparsity.
        memory: GB, 1e9 bytes; where it is sold with several, the most.
    """

    tflops: float
    memory: float


# The first name that is a word of the device's counts.
CARDS: Mapping[str, Card] = MappingProxyType(
    {
        "B200": Card(2250.0, 180),  # NVIDIA DGX B200 data sheet
        "H200": Card(989.4, 141),  # NVIDIA H200 data sheet
        "GH200": Card(989.4, 96),  # NVIDIA Grace Hopper data sheet
        "H100 NVL": Card(835.5, 94),  # NVIDIA H100 data sheet
        "H100 PCIe": Card(756.5, 80),  # NVIDIA H100 data sheet
        "H100": Card(989.4, 80),  # NVIDIA H100 data sheet, SXM5
        "H800": Card(989.4, 80),  # as H100 SXM5
        "A100": Card(312.0, 80),  # NVIDIA A100 data sheet
        "A800": Card(312.0, 80),  # as A100
        "L40S": Card(362.05, 48),  # NVIDIA L40S data sheet
        "L4": Card(121.0, 24),  # NVIDIA L4 data sheet
        "A40": Card(149.7, 48),  # NVIDIA A40 data sheet
        "A30": Card(165.0, 24),  # NVIDIA A30 data sheet
        "A10G": Card(70.0, 24),  # AWS EC2 G5 documentation
        "A10": Card(125.0, 24),  # NVIDIA A10 data sheet
        "RTX 4090": Card(165.2, 24),  # NVIDIA Ada architecture white paper
        "RTX 3090": Card(71.0, 24),  # NVIDIA Ampere GA102 white paper
        "MI300X": Card(1307.4, 192),  # AMD MI300X data sheet
        "MI250X": Card(383.0, 128),  # AMD MI250X data sheet
    }
)

PEAK_BF16: Mapping[str, float] = MappingProxyType(
    {name: card.tflops for name, card in CARDS.items()}
)


def card_named(device: str) -> str | None:
    """Return the name in CARDS that a device's own name contains; None for an unknown one."""
    return next((name for name in CARDS if re.search(rf"\b{name}\b", device)), None)
