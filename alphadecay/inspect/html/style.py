"""Colours, fonts and margins that all charts share; the margins leave a phone's 360 pixels to the
curves.

Figures are made in the colours of a light page; DARK says what each becomes on a dark one.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

PAPER = "#ffffff"
INK = "#1a1a1a"
GREY = "#5f6368"
GRID = "#e3e5e8"
TRAINING = "#1f5fbf"
VALIDATION = "#c2410c"
WARNING = "#b3001b"
SPIKE = "#b26a00"
# The colour-blind tell these apart too (Okabe and Ito 2008); pale yellow is darkened for a white
# page.
BLUE = "#0072b2"
ORANGE = "#d67f00"
GREEN = "#009e73"
PINK = "#cc79a7"
RED = "#d55e00"
SKY = "#3898d0"
OLIVE = "#8a7a00"
PURPLE = "#7f3fbf"
BROWN = "#8c564b"
SILVER = "#8a8f98"
TYPES = (BLUE, ORANGE, GREEN, PINK, RED, SKY, OLIVE, INK, PURPLE, BROWN)
# The page's own background and text in page.css are the first two.
DARK = {
    PAPER: "#1c1f24",
    INK: "#e8eaed",
    GREY: "#9aa0a6",
    GRID: "#363a41",
    TRAINING: "#6aa5f8",
    VALIDATION: "#ff8a4c",
    WARNING: "#ff6b7a",
    SPIKE: "#f0a63a",
    BLUE: "#4aa8e0",
    ORANGE: "#f0b429",
    GREEN: "#2bc497",
    PINK: "#e29cc2",
    RED: "#ff8a3d",
    SKY: "#9ad4f5",
    OLIVE: "#c9b84a",
    PURPLE: "#b48ae8",
    BROWN: "#c79286",
    SILVER: "#8a8f98",
}
SCALES = {"alpha": "Viridis", "decay": "Magma", "rate": "Cividis"}
HEIGHT = 340  # pixels
FONT = {
    "family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "size": 13,
    "color": INK,
}
# Above the chart: below it a legend of several lines would run into the axis.
LEGEND = {
    "orientation": "h",
    "x": 0,
    "xanchor": "left",
    "y": 1.02,
    "yanchor": "bottom",
    "font": {"size": 12},
}
AXIS = {
    "gridcolor": GRID,
    "zeroline": False,
    "linecolor": GREY,
    "ticks": "outside",
    "tickcolor": GREY,
    "automargin": True,
}


def figure(height: int = HEIGHT, below: str = "step", **layout: Any) -> go.Figure:
    """Make an empty chart; `below` names its horizontal axis."""
    chart = go.Figure(layout=go.Layout(template=go.layout.Template()))
    chart.update_layout(
        height=height,
        margin={"l": 46, "r": 18, "t": 10, "b": 48},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        font=FONT,
        legend=LEGEND,
        hovermode="x unified",
        hoverlabel={"font": {"size": 12}},
    )
    chart.update_xaxes(**AXIS, unifiedhovertitle={"text": "step %{x}"})
    chart.update_yaxes(**AXIS)
    # Not the axis's own title: plotly measures its place from the ticks, and misses it where a
    # chart is drawn again.
    chart.add_annotation(
        text=below,
        showarrow=False,
        xref="paper",
        yref="paper",
        x=0.5,
        y=0,
        yanchor="top",
        yshift=-24,
    )
    chart.update_layout(**layout)
    return chart


def type_colour(column: int) -> str:
    """Return the colour of the module type in a column, the same in every chart."""
    return TYPES[column % len(TYPES)]


def layer_colours(count: int) -> dict[str, list[str]]:
    """Return the colours of the layers, first to last, for a light and for a dark page.

    Each leaves out the end of the scale that its background swallows.
    """
    shares = [layer / max(1, count - 1) for layer in range(count)]
    return {
        "light": list(sample_colorscale("Viridis", [0.85 * share for share in shares])),
        "dark": list(sample_colorscale("Viridis", [0.25 + 0.75 * share for share in shares])),
    }
