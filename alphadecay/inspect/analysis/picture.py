"""Pictures of characters: a spectrum's tail on two logarithmic axes.

What is drawn is the share of eigenvalues that are at least λ: it needs no bins, and a power law
with exponent α is a straight line of slope 1 − α  (Clauset, Shalizi, Newman 2009).

Shapes: eigenvalues_K ascending.
"""

from __future__ import annotations

import math

from torch import Tensor

from alphadecay.spectral import Estimate, Status

DATA = "o"
LAW = "+"
CUT = "|"
HEIGHT = 18  # lines of the picture itself
_LABEL = 8  # characters in front of the axis
_DEFICIENT = 1e-12  # of the largest eigenvalue: below it float64 holds rounding


def draw_tail(eigenvalues_K: Tensor, estimate: Estimate, columns: int) -> str:
    """Return the picture, as wide as `columns`; empty where there is no spectrum to draw.

    Args: eigenvalues_K on the CPU, in the unit that x_min has.
    """
    positive = eigenvalues_K[eigenvalues_K > _DEFICIENT * eigenvalues_K[-1:]].tolist()
    if len(positive) < 2 or positive[0] == positive[-1]:
        return ""
    total = len(eigenvalues_K)
    shares = [(len(positive) - place) / total for place in range(len(positive))]
    is_fitted = estimate.status is Status.OK and estimate.x_min >= positive[0]
    low = math.log10(positive[0])
    high = math.log10(positive[-1])
    if is_fitted:  # the tail has half of the width, at the least
        low = max(low, 2 * math.log10(estimate.x_min) - high)
    wide = high - low
    depth = -math.log10(shares[-1])
    width = columns - _LABEL - 1
    canvas = [[" "] * width for _ in range(HEIGHT)]

    def put(value: float, share: float, mark: str) -> None:
        column = round((math.log10(value) - low) / wide * (width - 1))
        line = round(-math.log10(share) / depth * (HEIGHT - 1))
        if 0 <= column < width and 0 <= line < HEIGHT:
            canvas[line][column] = mark

    if is_fitted:
        for line in range(HEIGHT):
            put(estimate.x_min, 10 ** (-depth * line / (HEIGHT - 1)), CUT)
    for value, share in zip(positive, shares, strict=True):
        put(value, share, DATA)
    if is_fitted:
        span = high - math.log10(estimate.x_min)
        for step in range(2 * width):
            value = estimate.x_min * 10 ** (span * step / (2 * width - 1))
            law = (value / estimate.x_min) ** (1 - estimate.alpha)
            put(value, estimate.tail_count / total * law, LAW)
    return _framed(canvas, low, high, depth)


def _framed(canvas: list[list[str]], low: float, high: float, depth: float) -> str:
    """Return the canvas between its axes."""
    lines = []
    for place, line in enumerate(canvas):
        labelled = place % 5 == 0 or place == HEIGHT - 1
        share = 10 ** (-depth * place / (HEIGHT - 1))
        label = f"{share:.1g}" if labelled else ""
        lines.append(f"{label:>{_LABEL - 1}} |{''.join(line).rstrip()}")
    width = len(canvas[0])
    first = f"{10**low:.1e}"
    last = f"{10**high:.1e}"
    title = "eigenvalue of W'W".center(width - len(first) - len(last))
    lines.append(f"{'':>{_LABEL}}+{'-' * width}")
    lines.append(f"{'':>{_LABEL + 1}}{first}{title}{last}")
    return "\n".join(lines)
