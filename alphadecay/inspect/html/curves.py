"""Curves over steps: loss, perplexity, and where the time of a step went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from alphadecay.inspect.html import style
from alphadecay.inspect.html.downsample import extremes, stretches
from alphadecay.inspect.run.metrics import FigureOfMerit, Record, finite_or_none, perplexity
from alphadecay.inspect.run.parts import PARTS
from alphadecay.inspect.run.reader import Run

PART_COLOURS = {
    "data": style.ORANGE,
    "forward_backward": style.BLUE,
    "step": style.SKY,
    "refresh": style.PINK,
    "evaluation": style.GREEN,
    "checkpoint": style.SILVER,
    "compiling": style.BROWN,
}
FEW = 60  # marks that can be told apart
# short: on a phone the widest makes the columns of the legend
PART_NAMES = {"forward_backward": "fwd + bwd"}


@dataclass(frozen=True)
class Marks:
    """Marks of one kind on a vertical axis of their own, from 0 to 1.

    Args:
        name: in the legend.
        height: where they stand.
        marker: what they look like.
        hover: what the pointer is told; None tells nothing.
    """

    name: str
    height: float
    marker: dict[str, Any]
    hover: str | None = "at step %{x}"


REFRESHES = Marks(
    "refresh",
    0.02,
    {
        "symbol": "line-ns",
        "size": 9,
        "color": style.GREY,
        "line": {"width": 1.5, "color": style.GREY},
    },
    hover=None,
)
SKIPPED = Marks("step skipped", 0.97, {"symbol": "x", "size": 9, "color": style.WARNING})
SPIKES = Marks("loss spike", 0.92, {"symbol": "triangle-down", "size": 10, "color": style.SPIKE})


def loss(run: Run) -> go.Figure:
    """Draw training and validation loss, nats per token."""
    values = [record.get("loss") for record in run.of("train")]
    return _curves(run, values, "val_loss", "loss %{y:.4f}")


def perplexities(run: Run) -> go.Figure:
    """Draw exp of the same, on a logarithmic axis."""
    losses = [record.get("loss") for record in run.of("train")]
    values = [finite_or_none(None if loss is None else perplexity(loss)) for loss in losses]
    chart = _curves(run, values, "val_perplexity", "perplexity %{y:.4s}")
    # The first vertical axis alone. D2 puts 2 and 5 between the powers; d3's "~s" writes 4.2k.
    return chart.update_layout(yaxis={"type": "log", "dtick": "D2", "tickformat": "~s"})


def figure_of_merit(run: Run, figure: FigureOfMerit) -> go.Figure:
    """Draw a figure that validations alone have."""
    return _curves(run, [], figure.name, "%{y:.4f}")


def step_parts(run: Run) -> go.Figure | None:
    """Draw seconds a step by part, stacked; None where the run timed nothing."""
    windows = _windows(run.of("train"))
    if not windows:
        return None
    windows.insert(0, (0, windows[0][1]))  # a stretch of steps goes from one point to the next
    chart = style.figure(legend={"traceorder": "normal"})
    for part in PARTS:
        values = [seconds[part] for _, seconds in windows]
        if any(values):
            chart.add_scatter(
                x=[step for step, _ in windows],
                y=values,
                name=PART_NAMES.get(part, part),
                stackgroup="parts",
                mode="lines",
                line={"width": 0, "shape": "vh", "color": PART_COLOURS[part]},
                hovertemplate="%{y:.3~s}s",
            )
    return chart.update_yaxes(ticksuffix="s", rangemode="tozero", tickformat="~s")


def _curves(run: Run, values: Sequence[float | None], validated: str, hover: str) -> go.Figure:
    steps = [record["step"] for record in run.of("train")]
    validations = run.of("validation")
    kept = extremes(values)
    chart = style.figure()
    if values:
        chart.add_scatter(
            x=[steps[i] for i in kept],
            y=[values[i] for i in kept],
            name="training",
            mode="lines" if len(kept) > 1 else "markers",
            line={"color": style.TRAINING, "width": 1.5},
            hovertemplate=hover,
        )
    if validations:
        chart.add_scatter(
            x=[record["step"] for record in validations],
            y=[record.get(validated) for record in validations],
            name="validation",
            mode="lines+markers" if len(validations) <= FEW else "lines",
            line={"color": style.VALIDATION, "width": 1.5},
            marker={"size": 6},
            hovertemplate=hover,
        )
    _mark(chart, run)
    return chart


def _mark(chart: go.Figure, run: Run) -> None:
    """Add the refreshes if they are few, the skipped steps and the spikes."""
    notices = run.of("notice")
    refreshes = run.of("refresh")
    if len(refreshes) <= FEW:
        _add_marks(chart, REFRESHES, refreshes)
    _add_marks(chart, SKIPPED, [notice for notice in notices if "in_a_row" in notice])
    _add_marks(chart, SPIKES, [notice for notice in notices if "deviations" in notice])
    chart.update_layout(
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    )


def _add_marks(chart: go.Figure, marks: Marks, records: Sequence[Record]) -> None:
    if records:
        chart.add_scatter(
            x=[record["step"] for record in records],
            y=[marks.height] * len(records),
            yaxis="y2",
            name=marks.name,
            mode="markers",
            marker=marks.marker,
            hoverinfo="skip" if marks.hover is None else None,
            hovertemplate=marks.hover,
        )


def _windows(records: Sequence[Record]) -> list[tuple[int, dict[str, float]]]:
    """Return (last step, seconds a step by part) of the stretches between training lines, or
    between every few of a long run.
    """
    timed = [
        (int(record["step"]), record["seconds"]) for record in records if record.get("seconds")
    ]
    windows = []
    before = 0
    for stretch in stretches(len(timed)):
        last = timed[stretch[-1]][0]
        steps = max(1, last - before)
        sums = {part: sum(timed[i][1].get(part) or 0.0 for i in stretch) for part in PARTS}
        windows.append((last, {part: seconds / steps for part, seconds in sums.items()}))
        before = last
    return windows
