"""The heat map of a run: alpha and weight decay by layer and module type, one PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alphadecay.inspect.run.grid import Grid, figures, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A run draws at its end, and should neither wait for matplotlib at its start nor miss it then.
if find_spec("matplotlib") is None:
    raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

Panel = tuple[Grid, str, str]  # values, heading, scale of colours


def write_heatmaps(
    path: str | Path,
    alphas: Mapping[str, float],
    weight_decays: Mapping[str, float],
    history: Sequence[Mapping[str, Any]] = (),
    title: str = "",
) -> None:
    """Draw both maps side by side, a row a layer and a column a module type.

    An empty map leaves its panel out.

    Args:
        path: the PNG to write; its folder is made.
        alphas: by weight name.
        weight_decays: by weight name.
        history: the refresh lines of metrics.jsonl; from two on, a third panel shows how alpha
            moved.
        title: a line above the panels.
    """
    maps = (
        (alphas, "α, the tail exponent", "viridis"),
        (weight_decays, "weight decay", "magma"),
    )
    panels = [(grid(values), heading, colours) for values, heading, colours in maps if values]
    if not panels:
        return
    moved = [record for record in history if record.get("alphas")]
    figure = _draw(panels, moved if len(moved) > 1 else [], title)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw(panels: Sequence[Panel], history: Sequence[Mapping[str, Any]], title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = panels[0][0][0].shape
    heights = [max(2.6, 0.36 * rows + 1.2), *([2.6] if history else [])]
    width = len(panels) * max(4.2, 0.7 * columns + 1.4)
    # Agg on a figure of our own: pyplot would touch the caller's backend and keep the figure alive.
    figure = Figure(figsize=(width, sum(heights)), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold")
    # Separate sub-figures: in one grid the legend below would push the colour bars above apart.
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    axes = parts[0].subplots(1, len(panels), squeeze=False)[0]
    for axis, (cells, heading, colours) in zip(axes, panels, strict=True):
        _map(axis, cells, heading, colours)
    if history:
        _history(parts[1].subplots(), history)
    return figure


def _map(axis: Axes, cells: Grid, heading: str, colours: str) -> None:
    table, rows, columns = cells
    finite = table[np.isfinite(table)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    if low == high:  # one value everywhere belongs in the middle of the colours
        low = low - (abs(low) or 1.0)
        high = high + (abs(high) or 1.0)
    image = axis.imshow(table, cmap=colours, vmin=low, vmax=high, aspect="auto")
    axis.set_title(heading, fontsize=11)
    axis.set_ylabel("layer", fontsize=10)
    axis.set_xticks(
        range(len(columns)), columns, fontsize=9, rotation=30 if max(map(len, columns)) > 8 else 0
    )
    axis.set_yticks(range(len(rows)), rows, fontsize=9)
    axis.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axis.tick_params(which="both", length=0)
    axis.grid(which="minor", color="white", linewidth=1.5)
    axis.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(table):
        if math.isfinite(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
            axis.text(column, row, figures(value), ha="center", va="center", fontsize=8, color=ink)
    bar = axis.figure.colorbar(
        image, ax=axis, fraction=0.05, pad=0.02, aspect=max(20, 2 * len(rows))
    )
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _history(axis: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    """Draw mean alpha over the layers, a line a module type."""
    kinds = grid(records[-1]["alphas"])[2]
    means: dict[str, list[float]] = {kind: [] for kind in kinds}
    for record in records:
        table, _, columns = grid(record["alphas"])
        for kind in kinds:
            values = table[:, columns.index(kind)] if kind in columns else np.array([])
            values = values[np.isfinite(values)]
            means[kind].append(float(values.mean()) if values.size else math.nan)
    for kind, line in means.items():
        axis.plot(
            [record["step"] for record in records],
            line,
            marker="o",
            markersize=3,
            linewidth=1.5,
            label=kind,
        )
    axis.set_title("mean α over the layers, at each refresh", fontsize=11)
    axis.set_xlabel("step", fontsize=10)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
