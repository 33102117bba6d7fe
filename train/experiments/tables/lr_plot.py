"""Draws the final loss of every method over the learning rates of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from train.experiments.tables.lr_sensitivity import Sensitivity


def write_lr_plot(path: Path, title: str, found: Sequence[Sensitivity]) -> None:
    """Draw a PNG: a panel for each group of columns, a line for each row, a point a seed."""
    groups = list(dict.fromkeys(each.group for each in found))
    figure = Figure(figsize=(6.2 * len(groups), 4.8), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for group, axis in zip(groups, panels, strict=True):
        _panel(axis, group, [each for each in found if each.group == group])
    figure.savefig(path)


def _panel(axis: Axes, group: str, found: Sequence[Sensitivity]) -> None:
    for number, each in enumerate(found):
        if not each.losses:
            continue
        colour = f"C{number % 10}"
        rates = sorted(next(iter(each.losses.values())))
        means = [fmean(by_lr[lr] for by_lr in each.losses.values()) for lr in rates]
        spread = each.spread
        told = f"{each.row}: {spread.mean:.3f}" if spread else each.row
        axis.plot(rates, means, color=colour, linewidth=1.6, label=told)
        for by_lr in each.losses.values():
            axis.plot(rates, [by_lr[lr] for lr in rates], "o", color=colour, markersize=3.5)
    axis.axhline(found[0].start, color="#888888", linewidth=0.9, linestyle=(0, (4, 3)))
    axis.set_xscale("log")
    axis.set_title(group, fontsize=11)
    axis.set_xlabel("peak learning rate", fontsize=9.5)
    axis.set_ylabel("final validation loss", fontsize=9.5)
    axis.grid(color="#e3e6ea", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(title="method: LR sensitivity", fontsize=8.5, title_fontsize=8.5, frameon=False)
