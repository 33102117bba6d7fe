"""Curves over steps: loss, perplexity, and where the time of a step went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from train.reporting.html.downsample import extremes, stretches
from train.reporting.html.run_reader import Run
from train.reporting.html.style import GREY, TRAINING, VALIDATION, WARNING, figure
from train.telemetry.clock import PARTS
from train.telemetry.metrics import Record, finite_or_none, perplexity

PART_COLOURS = {
    "data": "#e69f00",
    "forward_backward": "#0072b2",
    "step": "#56b4e9",
    "refresh": "#cc79a7",
    "evaluation": "#009e73",
    "checkpoint": "#8a8f98",
}
FEW = 60  # marks that can be told apart
# short: on a phone the widest makes the columns of the legend
PART_NAMES = {"forward_backward": "fwd + bwd"}


def loss(run: Run) -> go.Figure:
    """Training and validation loss, nats per token."""
    return _curves(
        run, [record.get("loss") for record in run.of("train")], "val_loss", "loss %{y:.4f}"
    )


def perplexities(run: Run) -> go.Figure:
    """exp of the same, on a logarithmic axis."""
    values = [
        finite_or_none(None if loss is None else perplexity(loss))
        for loss in (record.get("loss") for record in run.of("train"))
    ]
    found = _curves(run, values, "val_perplexity", "perplexity %{y:.4s}")
    # Of the first vertical axis alone. D2 puts 2 and 5 between the powers; d3's "~s" writes 4.2k.
    return found.update_layout(yaxis={"type": "log", "dtick": "D2", "tickformat": "~s"})


def step_parts(run: Run) -> go.Figure | None:
    """Seconds a step by part, stacked; None where the run timed nothing."""
    windows = _windows(run.of("train"))
    if not windows:
        return None
    windows.insert(0, (0, windows[0][1]))  # a stretch of steps goes from one point to the next
    found = figure(legend={"traceorder": "normal"})
    for part in PARTS:
        values = [seconds[part] for _, seconds in windows]
        if any(values):
            found.add_scatter(
                x=[step for step, _ in windows],
                y=values,
                name=PART_NAMES.get(part, part),
                stackgroup="parts",
                mode="lines",
                line={"width": 0, "shape": "vh", "color": PART_COLOURS[part]},
                hovertemplate="%{y:.3~s}s",
            )
    return found.update_yaxes(ticksuffix="s", rangemode="tozero", tickformat="~s")


def _curves(run: Run, values: Sequence[float | None], validated: str, hover: str) -> go.Figure:
    steps = [record["step"] for record in run.of("train")]
    validations = run.of("validation")
    kept = extremes(values)
    found = figure()
    found.add_scatter(
        x=[steps[i] for i in kept],
        y=[values[i] for i in kept],
        name="training",
        mode="lines" if len(kept) > 1 else "markers",
        line={"color": TRAINING, "width": 1.5},
        hovertemplate=hover,
    )
    if validations:
        found.add_scatter(
            x=[record["step"] for record in validations],
            y=[record.get(validated) for record in validations],
            name="validation",
            mode="lines+markers" if len(validations) <= FEW else "lines",
            line={"color": VALIDATION, "width": 1.5},
            marker={"size": 6},
            hovertemplate=hover,
        )
    _mark(found, run)
    return found


def _mark(found: go.Figure, run: Run) -> None:
    """Refreshes if they are few, skipped steps and spikes, on a vertical axis of their own from 0
    to 1.
    """
    notices = run.of("notice")
    refreshes = run.of("refresh")
    marks: list[tuple[str, float, dict[str, Any], list[Record]]] = [
        (
            "refresh",
            0.02,
            {"symbol": "line-ns", "size": 9, "line": {"width": 1.5, "color": GREY}},
            refreshes if len(refreshes) <= FEW else [],
        ),
        (
            "step skipped",
            0.97,
            {"symbol": "x", "size": 9, "color": WARNING},
            [n for n in notices if "in_a_row" in n],
        ),
        (
            "loss spike",
            0.92,
            {"symbol": "triangle-down", "size": 10, "color": "#b26a00"},
            [n for n in notices if "deviations" in n],
        ),
    ]
    for name, height, marker, records in marks:
        if records:
            found.add_scatter(
                x=[record["step"] for record in records],
                y=[height] * len(records),
                yaxis="y2",
                name=name,
                mode="markers",
                marker=marker,
                hoverinfo="skip" if name == "refresh" else None,
                hovertemplate=None if name == "refresh" else "at step %{x}",
            )
    found.update_layout(
        yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    )


def _windows(records: Sequence[Record]) -> list[tuple[int, dict[str, float]]]:
    """(last step, seconds a step by part) of the stretches between training lines, or between every
    few of a long run.
    """
    timed = [
        (int(record["step"]), record["seconds"]) for record in records if record.get("seconds")
    ]
    found = []
    before = 0
    for stretch in stretches(len(timed)):
        last = timed[stretch[-1]][0]
        sums = {part: sum(timed[i][1].get(part) or 0.0 for i in stretch) for part in PARTS}
        found.append((last, {part: value / max(1, last - before) for part, value in sums.items()}))
        before = last
    return found
