"""Draws a range test: the loss over the learning rate."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from train.experiments.lr_range.reading import Reading

INK = "#333333"
POINT = "#b9c4d0"
SUGGESTED = "#1a7f4b"
STEEPEST = "#c77d0a"


def write_range_plot(path: Path, reading: Reading, title: str) -> None:
    """Draw the PNG: a point a step, their running mean, and the rates that it tells."""
    figure = Figure(figsize=(8, 5), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.set_title(title, fontsize=13, fontweight="bold", loc="left")
    axis.plot(reading.rates, reading.losses, ".", color=POINT, markersize=5, label="a step")
    axis.plot(reading.rates, reading.smoothed, color=INK, linewidth=1.8, label="running mean")
    marks = (
        (reading.suggested, SUGGESTED, f"suggested peak, {reading.suggested:.2g}"),
        (reading.steepest, STEEPEST, f"falls fastest, {reading.steepest:.2g}"),
        (reading.least, INK, f"least, {reading.least:.2g}"),
    )
    for rate, colour, label in marks:
        axis.axvline(rate, color=colour, linewidth=1.3, linestyle=(0, (4, 3)), label=label)
    low, high = min(reading.losses), max(reading.smoothed)
    axis.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel("training loss")
    axis.grid(color="#e3e6ea", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=9, frameon=False)
    figure.savefig(path)
