"""What the charts share: colours, fonts, margins that leave a phone's 360 pixels to the curves."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

INK = "#1a1a1a"
GREY = "#5f6368"
GRID = "#e3e5e8"
TRAINING = "#1f5fbf"
VALIDATION = "#c2410c"
WARNING = "#b3001b"
# Told apart by the colour-blind too (Okabe and Ito 2008), pale yellow darkened for a white page.
TYPES = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#d55e00",
    "#56b4e9",
    "#8a7a00",
    "#1a1a1a",
    "#7f3fbf",
    "#8c564b",
)
SCALES = {"alpha": "Viridis", "decay": "Magma"}
HEIGHT = 340  # pixels


def figure(height: int = HEIGHT, below: str = "step", **layout: Any) -> go.Figure:
    """An empty chart; `below` names its horizontal axis."""
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": GREY,
        "ticks": "outside",
        "tickcolor": GREY,
        "automargin": True,
    }
    found = go.Figure(layout=go.Layout(template=go.layout.Template()))
    found.update_layout(
        height=height,
        margin={"l": 46, "r": 18, "t": 10, "b": 48},
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={
            "family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
            "size": 13,
            "color": INK,
        },
        # Above the chart: below it a legend of several lines would run into the axis.
        legend={
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12},
        },
        hovermode="x unified",
        hoverlabel={"font": {"size": 12}},
    )
    found.update_xaxes(**axis, unifiedhovertitle={"text": "step %{x}"})
    found.update_yaxes(**axis)
    # Not the axis's own title: plotly measures its place from the ticks, and misses it where a
    # chart is drawn again.
    found.add_annotation(
        text=below,
        showarrow=False,
        xref="paper",
        yref="paper",
        x=0.5,
        y=0,
        yanchor="top",
        yshift=-24,
    )
    found.update_layout(**layout)
    return found


def type_colour(index: int) -> str:
    """Of the module type in column `index`, the same in every chart."""
    return TYPES[index % len(TYPES)]


def layer_colours(count: int) -> list[str]:
    """Of the layers, first to last; without the scale's palest end, which a white page swallows."""
    return list(sample_colorscale("Viridis", [0.85 * i / max(1, count - 1) for i in range(count)]))


def translucent(colour: str, share: float) -> str:
    """#rrggbb as rgba."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"
