"""What a rank computes on, in the figures that a plan needs: measured ones, with their source.

A spectrum costs its Gram product, 2·m·n² flops for the smaller side n, and its eigenvalues, which
are measured by side.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from alphadecay.inspect.plan.known_peaks import ASSUMED_MFU, CARDS


@dataclass(frozen=True)
class Machine:
    """The figures of one rank.

    Args:
        name: what it is.
        products: flops per second of a Gram product.
        eigenvalues: side -> seconds of one matrix's eigenvalues; at least one.
        link: bytes per second that a rank sends, or receives, while others do.
        latency: seconds of a collective, however little it moves.
        training: FLOPs per second that a training step reaches.
        source: where these figures are from, for a person.
    """

    name: str
    products: float
    eigenvalues: Mapping[int, float]
    link: float
    latency: float
    training: float
    source: str

    def seconds(self, shape: tuple[int, int]) -> float:
        """Return the seconds of one spectrum."""
        short, long = sorted(shape)
        return 2.0 * long * short * short / self.products + self._solving(short)

    def _solving(self, side: int) -> float:
        """Interpolate between two measured sides, on logarithmic axes.

        Below the smallest it is the calls that cost; above the largest it grows as the side cubed.
        """
        sides = sorted(self.eigenvalues)
        place = bisect.bisect_left(sides, side)
        if place == 0:
            return self.eigenvalues[sides[0]]
        if place == len(sides):
            return self.eigenvalues[sides[-1]] * (side / sides[-1]) ** 3
        low, high = sides[place - 1], sides[place]
        share = math.log(side / low) / math.log(high / low)
        between = math.log(self.eigenvalues[low]), math.log(self.eigenvalues[high])
        return math.exp((1 - share) * between[0] + share * between[1])


CPU = Machine(
    name="cpu",
    products=1.3e11,
    eigenvalues=MappingProxyType(
        {64: 0.78e-3, 512: 12.6e-3, 768: 29.0e-3, 1024: 65.5e-3, 2048: 362e-3}
    ),
    link=6.4e8,
    latency=0.8e-3,
    training=ASSUMED_MFU * 1.6e11,
    source=(
        "one thread of an AMD EPYC core, float32, gloo on one host "
        "(tests/bench/results/spectral-cpu.json, refresh-cpu.json, train-cpu.json)"
    ),
)
H200 = Machine(
    name="h200",
    products=1.85e13,
    eigenvalues=MappingProxyType({512: 3.86e-3, 768: 5.20e-3, 1024: 7.40e-3, 2048: 19.2e-3}),
    link=2.5e10,
    latency=5e-5,
    training=ASSUMED_MFU * CARDS["H200"].tflops * 1e12,
    source=(
        "one H200, four threads (tests/bench/results/h200-0.1/eigensolver.json); assumed and not "
        f"measured: 25 GB/s a rank, 50 us a collective, {ASSUMED_MFU:.0%} of the peak in training"
    ),
)
MACHINES: Mapping[str, Machine] = MappingProxyType({"h200": H200, "cpu": CPU})
