"""α and decay by layer and type: the maps at the last refresh, which the page moves over all, and
their trajectories.

Names come from the run and are escaped: plotly reads a little HTML in labels.

Shapes: R refreshes, L layers, T module types.
"""

from __future__ import annotations

import warnings
from html import escape

import numpy as np
import plotly.graph_objects as go

from train.reporting.html.curves import FEW
from train.reporting.html.refreshes import Cube, Refreshes
from train.reporting.html.style import SCALES, figure, translucent, type_colour

ROW = 24  # pixels
TEXT = {"alpha": "%{z:.2f}", "decay": "%{z:.2r}"}
BAND = (25, 75)  # per cent of the layers


def heat_map(found: Refreshes, quantity: str) -> go.Figure:
    """The last refresh, in colours that hold for all of them: from the smallest value of any to the
    largest.
    """
    cube_RLT = found.values[quantity]
    low, high = bounds(cube_RLT)
    chart = figure(
        ROW * max(3, len(found.layers)) + 84,
        below="",
        hovermode="closest",
        margin={"l": 28, "r": 6, "t": 26, "b": 6},
    )
    chart.add_heatmap(
        z=[[None if np.isnan(value) else float(value) for value in row] for row in cube_RLT[-1]],
        x=[escape(name) for name in found.types],
        y=[escape(name) for name in found.layers],
        zmin=low,
        zmax=high,
        colorscale=SCALES[quantity],
        texttemplate=TEXT[quantity],
        textfont={"size": 11, "weight": 600},
        xgap=1,
        ygap=1,
        hovertemplate="layer %{y} %{x}: %{z:.4~r}<extra></extra>",
        colorbar={
            "orientation": "h",
            "thickness": 10,
            "y": 0,
            "yanchor": "top",
            "len": 1,
            "outlinewidth": 0,
            "tickfont": {"size": 11},
        },
    )
    chart.update_xaxes(type="category", side="top", ticks="", showgrid=False, showline=False)
    chart.update_yaxes(type="category", autorange="reversed", ticks="", showgrid=False)
    return chart


def trajectories(found: Refreshes, quantity: str) -> go.Figure:
    """A line a module type: the median of its layers, in a band that holds the middle half of them."""
    chart = figure(hovermode="x unified")
    for column, name in enumerate(map(escape, found.types)):
        low, middle, high = (
            _percentile(found.values[quantity][:, :, column], share)
            for share in (BAND[0], 50, BAND[1])
        )
        colour = type_colour(column)
        if len(found.layers) > 2:
            around = [*high, *low[::-1]]
            chart.add_scatter(
                x=[*found.steps, *found.steps[::-1]],
                y=around,
                fill="toself",
                fillcolor=translucent(colour, 0.13),
                mode="lines",
                line={"width": 0},
                legendgroup=name,
                showlegend=False,
                hoverinfo="skip",
            )
        chart.add_scatter(
            x=found.steps,
            y=middle,
            name=name,
            legendgroup=name,
            mode="lines+markers" if len(found.steps) <= FEW else "lines",
            line={"color": colour, "width": 2},
            marker={"size": 5},
            hovertemplate="%{y:.3~r}",
        )
    return chart


def bounds(cube_RLT: Cube) -> tuple[float, float]:
    """Smallest and largest value, spread a little where they are one."""
    finite = cube_RLT[np.isfinite(cube_RLT)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (low, high) if low < high else (low - (abs(low) or 1.0), high + (abs(high) or 1.0))


def _percentile(values_RL: np.ndarray, share: float) -> list[float | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a refresh in which no layer has a value
        found_R = np.nanpercentile(values_RL, share, axis=1)
    return [None if np.isnan(value) else float(value) for value in found_R]
