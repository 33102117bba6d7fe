"""α and decay by layer and type: the maps, which the page moves over all refreshes, and their
trajectories.

Names come from the run and are escaped: plotly reads a little HTML in labels.

Shapes: R refreshes, L layers, T module types.
"""

from __future__ import annotations

import warnings
from html import escape

import numpy as np
import plotly.graph_objects as go

from alphadecay.inspect.html.curves import FEW
from alphadecay.inspect.html.refreshes import Cube, Refreshes
from alphadecay.inspect.html.style import SCALES, figure, type_colour

ROW = 24  # pixels
TEXT = {"alpha": "%{z:.2f}", "decay": "%{z:.2r}", "rate": "%{z:.2f}"}
BAND = (25, 75)  # per cent of the layers
BAND_OPACITY = 0.13
COLOUR_BAR = {
    "orientation": "h",
    "thickness": 10,
    "y": 0,
    "yanchor": "top",
    "len": 1,
    "outlinewidth": 0,
    "tickfont": {"size": 11},
}


def heat_map(
    refreshes: Refreshes, quantity: str, limits: tuple[float, float] | None = None
) -> go.Figure:
    """Draw the last refresh.

    Args:
        limits: the values of the first and the last colour; by default the smallest and the largest
            of all refreshes.
    """
    cube_RLT = refreshes.values[quantity]
    low, high = limits or bounds(cube_RLT)
    chart = figure(
        ROW * max(3, len(refreshes.layers)) + 84,
        below="",
        hovermode="closest",
        margin={"l": 28, "r": 6, "t": 26, "b": 6},
    )
    chart.add_heatmap(
        z=[_or_none(row) for row in cube_RLT[-1]],
        x=[escape(name) for name in refreshes.types],
        y=[escape(name) for name in refreshes.layers],
        zmin=low,
        zmax=high,
        colorscale=SCALES[quantity],
        texttemplate=TEXT[quantity],
        textfont={"size": 11, "weight": 600},
        xgap=1,
        ygap=1,
        hovertemplate="layer %{y} %{x}: %{z:.4~r}<extra></extra>",
        colorbar=COLOUR_BAR,
    )
    chart.update_xaxes(type="category", side="top", ticks="", showgrid=False, showline=False)
    chart.update_yaxes(type="category", autorange="reversed", ticks="", showgrid=False)
    return chart


def trajectories(refreshes: Refreshes, quantity: str) -> go.Figure:
    """Draw a line a module type: the median of its layers, in a band of their middle half."""
    chart = figure(hovermode="x unified")
    for column, name in enumerate(map(escape, refreshes.types)):
        values_RL = refreshes.values[quantity][:, :, column]
        if len(refreshes.layers) > 2:
            _add_band(chart, refreshes.steps, values_RL, name, type_colour(column))
        chart.add_scatter(
            x=refreshes.steps,
            y=_percentile(values_RL, 50),
            name=name,
            legendgroup=name,
            mode="lines+markers" if len(refreshes.steps) <= FEW else "lines",
            line={"color": type_colour(column), "width": 2},
            marker={"size": 5},
            hovertemplate="%{y:.3~r}",
        )
    return chart


def bounds(cube_RLT: Cube) -> tuple[float, float]:
    """Return the smallest and the largest value, spread a little where they are one."""
    finite = cube_RLT[np.isfinite(cube_RLT)]
    if not finite.size:
        return 0.0, 1.0
    low = float(finite.min())
    high = float(finite.max())
    if low < high:
        return low, high
    return low - (abs(low) or 1.0), high + (abs(high) or 1.0)


def _add_band(
    chart: go.Figure, steps: list[int], values_RL: np.ndarray, name: str, colour: str
) -> None:
    low, high = (_percentile(values_RL, share) for share in BAND)
    chart.add_scatter(
        x=[*steps, *steps[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=colour,
        opacity=BAND_OPACITY,
        mode="lines",
        line={"width": 0, "color": colour},
        legendgroup=name,
        showlegend=False,
        hoverinfo="skip",
    )


def _percentile(values_RL: np.ndarray, share: float) -> list[float | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a refresh in which no layer has a value
        return _or_none(np.nanpercentile(values_RL, share, axis=1))


def _or_none(values: np.ndarray) -> list[float | None]:
    """Return Python's numbers, None for NaN, which JSON has no word for."""
    return [None if np.isnan(value) else float(value) for value in values]
