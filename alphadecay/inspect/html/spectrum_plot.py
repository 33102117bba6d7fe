"""The spectrum of one module on two logarithmic axes, and the power law over its tail."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from alphadecay.inspect.html.spectra import Esd
from alphadecay.inspect.html.style import GREY, TRAINING, VALIDATION, figure
from alphadecay.spectral import Status

BINS = 60
TICKS = 7
DEFICIENT = 1e-12  # of the largest eigenvalue: below this float64 holds rounding


def density(esd: Esd) -> go.Figure:
    """Draw a histogram of equal bins of log λ, as a density of λ, and p(λ) ∝ λ^−α from the cut-off
    to the largest eigenvalue.
    """
    middles, widths, heights = histogram(esd)
    chart = figure(below="eigenvalue λ of WᵀW", hovermode="closest", bargap=0)
    hover = "λ %{x:.3~g}: %{y:.3~g}<extra></extra>"
    chart.add_bar(
        x=middles,
        y=heights,
        width=widths,
        name=f"{len(esd.eigenvalues):,} eigenvalues",
        hovertemplate=hover,
        opacity=0.45,
        marker={"color": TRAINING, "line": {"width": 0}},
    )
    if esd.estimate.status is Status.OK:
        ends, law = power_law(esd)
        fit = esd.estimate
        name = f"power law, α = {fit.alpha:.3f}, of the {fit.tail_count:,} largest"
        chart.add_scatter(
            x=ends,
            y=law,
            mode="lines",
            name=name,
            line={"color": VALIDATION, "width": 3},
            hovertemplate=hover,
        )
        chart.add_vline(x=ends[0], line={"color": GREY, "dash": "dot", "width": 1.5})
    powers = {"type": "log", "exponentformat": "power", "tickfont": {"size": 12}}
    chart.update_xaxes(**powers, dtick=_decades(middles))
    return chart.update_yaxes(**powers, dtick=_decades(heights))


def histogram(esd: Esd) -> tuple[list[float], list[float], list[float]]:
    """Return the bins that hold something: their middles and widths (λ), and their densities, a
    share of all eigenvalues per unit of λ.
    """
    values_K = esd.eigenvalues
    positive = values_K[values_K > DEFICIENT * values_K[-1]] if values_K.size else values_K
    if positive.size < 2 or positive[0] == positive[-1]:
        return [], [], []
    edges = np.geomspace(positive[0], positive[-1], BINS + 1)
    # rounding must not leave the outermost out
    edges[0] = positive[0]
    edges[-1] = positive[-1]
    counts, _ = np.histogram(positive, edges)
    full = counts > 0
    widths = np.diff(edges)[full]
    # The middle on a plain scale: plotly puts half of the width on either side of it, and then
    # takes logarithms.
    middles = ((edges[:-1] + edges[1:]) / 2)[full]
    densities = counts[full] / values_K.size / widths
    return middles.tolist(), widths.tolist(), densities.tolist()


def power_law(esd: Esd) -> tuple[list[float], list[float]]:
    """Return λ at the cut-off and at the end, and the fitted density there: tail/K · (α − 1)/x_min
    · (λ/x_min)^−α.
    """
    fit = esd.estimate
    largest = float(esd.eigenvalues[-1])
    share = fit.tail_count / esd.eigenvalues.size
    first = share * (fit.alpha - 1) / fit.x_min
    return [fit.x_min, largest], [first, first * (largest / fit.x_min) ** -fit.alpha]


def _decades(values: list[float]) -> int:
    """Return the decades between two ticks that leave no more than a phone has room for."""
    if not values:
        return 1
    return max(1, math.ceil(math.log10(max(values) / min(values)) / TICKS))
