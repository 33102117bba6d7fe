"""Draws the validation loss of every method of the part `evidence` over its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.gpu.tables import Figures, measured

_FROM = 0.3  # of the run: before, all methods lie on one steep line


def curves(part: Figures) -> dict[str, list[tuple[float, float]]]:
    """Return every method's validations as (share of the run, loss), the best at the end first."""
    found = {
        name: [(step / case["validations"][-1][0], loss) for step, loss in case["validations"]]
        for name, case in measured(part).items()
        if case.get("validations")
    }
    return dict(sorted(found.items(), key=lambda one: one[1][-1][1]))


def write_curves(path: Path, results: Mapping[str, Any]) -> None:
    """Draw a PNG: the whole run on the left, its end on the right."""
    part = results["parts"]["evidence"]
    found = curves(part)
    tokens = max(case["tokens"] for case in measured(part).values()) / 1e6
    figure = Figure(figsize=(12.4, 4.8), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    title = f"Ideas about weight decay at 60M, one seed, one {results['machine']['device']}"
    figure.suptitle(title, fontsize=13, fontweight="bold")
    whole, end = figure.subplots(1, 2)
    for number, (name, points) in enumerate(found.items()):
        style = "-" if number < 10 else "--"  # there are ten colours
        for axis, start in ((whole, 0.0), (end, _FROM)):
            shown = [(tokens * share, loss) for share, loss in points if share >= start]
            axis.plot(*zip(*shown, strict=True), style, color=f"C{number % 10}", label=name)
    for axis in (whole, end):
        _finish(axis)
    end.legend(title="best at the end first", fontsize=8.5, title_fontsize=8.5, frameon=False)
    figure.savefig(path)


def _finish(axis: Axes) -> None:
    axis.set_xlabel("tokens, millions", fontsize=9.5)
    axis.set_ylabel("validation loss", fontsize=9.5)
    axis.grid(color="#e3e6ea", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
