"""The page of several runs side by side: figures, what sets them apart, curves, maps, time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from alphadecay.inspect.html import heatmaps, style
from alphadecay.inspect.html.curves import FEW, PART_COLOURS, PART_NAMES
from alphadecay.inspect.html.downsample import extremes
from alphadecay.inspect.html.page import Chart, Section, render_template
from alphadecay.inspect.html.refreshes import NAMES, Refreshes, read_refreshes
from alphadecay.inspect.html.summary_cards import facts, headline
from alphadecay.inspect.run.comparison import (
    Compared,
    Comparison,
    differences,
    shared_label,
)
from alphadecay.inspect.run.metrics import PERPLEXITY, Record, figure_of, finite_or_none
from alphadecay.inspect.run.parts import PARTS
from alphadecay.inspect.run.reader import SCORES

DASHES = ("solid", "dash", "dot", "dashdot")  # where there are more runs than colours
MOST_DIFFERENCES = 60  # rows
BAR = 34  # pixels
GOODPUT_NAMES = {"save_stall": "saves", "data_wait": "data", "lost": "done again"}
GOODPUT_COLOURS = {
    "training": style.BLUE,
    "data_wait": style.ORANGE,
    "refresh": style.PINK,
    "evaluation": style.GREEN,
    "compile": style.BROWN,
    "save_stall": style.SILVER,
    "start": style.SKY,
    "lost": style.RED,
    "other": style.GREY,
}


def render(comparison: Comparison) -> str:
    """Return the page as HTML."""
    runs = comparison.runs
    sections = [_curves(runs), *_maps(runs), _time(runs)]
    return render_template(
        "compare.html.j2",
        [chart for section in sections for chart in section.charts],
        labels=[one.label for one in runs],
        remarks=[(one.label, remark) for one in runs for remark in one.remarks],
        left_out=list(comparison.left_out.items()),
        figures=_figures(runs),
        settings=list(differences([one.run for one in runs]).items())[:MOST_DIFFERENCES],
        sections=sections,
    )


def _figures(runs: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """Return each figure that any run has, with the text of every run."""
    stands = [headline(one.run) for one in runs]
    columns = [dict(facts(one.run)) for one in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, [column.get(name, "–") for column in columns]) for name in names]
    return [("State", [f"{state}, {where}" for state, where in stands]), *rows]


def _curves(runs: Sequence[Compared]) -> Section:
    label = shared_label(runs)
    charts = [
        Chart("validation", f"Validation {label} over steps", _validation(runs, "step")),
        Chart("training", f"Training loss over steps{_unit(label)}", _training(runs, "step")),
    ]
    text = "A line a run, in the same colour throughout."
    if _steps_differ(runs):
        text += " Their steps are not of one size, so the same is drawn over tokens too."
        validation = _validation(runs, "tokens")
        charts += [
            Chart("validation-tokens", f"Validation {label} over tokens", validation),
            Chart("training-tokens", "Training loss over tokens", _training(runs, "tokens")),
        ]
    return Section(f"Loss and {label}", text, charts)


def _steps_differ(runs: Sequence[Compared]) -> bool:
    """Return whether a step of one run has other tokens than one of another."""
    sizes = set()
    for one in runs:
        known = [record for record in one.run.of("train") if record.get("tokens")]
        if known and known[-1]["step"]:
            sizes.add(round(known[-1]["tokens"] / known[-1]["step"]))
    return len(sizes) > 1


def _validation(runs: Sequence[Compared], over: str) -> go.Figure:
    chart = style.figure(below=over)
    for place, one in enumerate(runs):
        records = one.run.of("validation")
        name = figure_of(records).name
        if records:
            chart.add_scatter(
                x=_along(records, one, over),
                y=[record.get(name) for record in records],
                mode="lines+markers" if len(records) <= FEW else "lines",
                marker={"size": 5},
                hovertemplate="%{y:.4s}",
                **_line(place, one),
            )
    if shared_label(runs) == PERPLEXITY.label:
        chart.update_yaxes(type="log", dtick="D2", tickformat="~s")
    return _over(chart, over)


def _unit(label: str) -> str:
    return ", nats per token" if label == PERPLEXITY.label else ""


def _training(runs: Sequence[Compared], over: str) -> go.Figure:
    chart = style.figure(below=over)
    for place, one in enumerate(runs):
        records = one.run.of("train")
        losses = [finite_or_none(record.get("loss")) for record in records]
        kept = extremes(losses)
        if kept:
            x = _along(records, one, over)
            chart.add_scatter(
                x=[x[i] for i in kept],
                y=[losses[i] for i in kept],
                mode="lines" if len(kept) > 1 else "markers",
                hovertemplate="%{y:.4f}",
                **_line(place, one),
            )
    return _over(chart, over)


def _along(records: Sequence[Record], one: Compared, over: str) -> list[float]:
    """Return where records lie along the horizontal axis; tokens from the training lines."""
    steps = [float(record["step"]) for record in records]
    if over == "step":
        return steps
    known = [(r["step"], r["tokens"]) for r in one.run.of("train") if r.get("tokens")]
    known_steps = np.array([0, *(step for step, _ in known)], dtype=float)
    known_tokens = np.array([0, *(tokens for _, tokens in known)], dtype=float)
    return [float(np.interp(step, known_steps, known_tokens)) for step in steps]


def _over(chart: go.Figure, over: str) -> go.Figure:
    if over == "tokens":
        chart.update_xaxes(tickformat="~s", unifiedhovertitle={"text": "%{x:.4s} tokens"})
    return chart


def _line(place: int, one: Compared) -> dict[str, Any]:
    colours = style.TYPES
    dash = DASHES[place // len(colours) % len(DASHES)]
    line = {"color": colours[place % len(colours)], "width": 1.5, "dash": dash}
    return {"name": escape(one.label), "line": line}


def _maps(runs: Sequence[Compared]) -> Iterator[Section]:
    """Yield the maps of the last refreshes, in colours that hold for all runs."""
    read = [(one, read_refreshes(one.run.of("refresh")[-1:])) for one in runs]
    known = [(one, refreshes) for one, refreshes in read if refreshes is not None]
    for quantity, name in NAMES.items():
        shown = [
            (one, refreshes)
            for one, refreshes in known
            if quantity in refreshes.values
            and not (quantity == "alpha" and one.run.method in SCORES)
        ]
        title = f"{name} by layer and type, at the last refresh"
        if shown:
            yield Section(title, _about_maps(shown), _map_charts(shown, quantity))
        elif quantity != "rate":  # which few runs have
            yield Section(title, "None: no run has any.")


def _about_maps(shown: Sequence[tuple[Compared, Refreshes]]) -> str:
    text = "A row a layer, a column a type of weight; the colours hold for all runs."
    shapes = {(tuple(r.layers), tuple(r.types)) for _, r in shown}
    if len(shapes) > 1:
        text += " The models differ in their layers or types."
    return text


def _map_charts(shown: Sequence[tuple[Compared, Refreshes]], quantity: str) -> list[Chart]:
    values = np.concatenate([refreshes.values[quantity].ravel() for _, refreshes in shown])
    limits = heatmaps.bounds(values)
    return [
        Chart(
            f"map-{quantity}-{place}",
            f"{one.label}, step {refreshes.steps[-1]:,}",
            heatmaps.heat_map(refreshes, quantity, limits),
        )
        for place, (one, refreshes) in enumerate(shown)
    ]


def _time(runs: Sequence[Compared]) -> Section:
    title = "Where the time went"
    steps = [(one.label, _seconds_a_step(one)) for one in runs]
    goodput = [(one.label, _shares(one)) for one in runs]
    charts = []
    if any(parts for _, parts in steps):
        chart = _bars(steps, PARTS, PART_NAMES, PART_COLOURS, "s")
        charts.append(Chart("seconds", "Seconds a step, the mean over the run", chart))
    if any(parts for _, parts in goodput):
        chart = _bars(goodput, tuple(GOODPUT_COLOURS), GOODPUT_NAMES, GOODPUT_COLOURS, "%")
        charts.append(Chart("goodput", "Wall time over all starts, per cent", chart))
    return Section(title, "A bar a run." if charts else "Nothing was timed.", charts)


def _seconds_a_step(one: Compared) -> dict[str, float]:
    timed = [record for record in one.run.of("train") if record.get("seconds")]
    if not timed or not one.run.last_step:
        return {}
    return {
        part: sum(record["seconds"].get(part) or 0.0 for record in timed) / one.run.last_step
        for part in PARTS
    }


def _shares(one: Compared) -> dict[str, float]:
    goodput = one.run.goodput
    if not goodput or not goodput["wall_seconds"]:
        return {}
    wall = goodput["wall_seconds"]
    return {part: 100 * seconds / wall for part, seconds in goodput["seconds"].items()}


def _bars(
    rows: Sequence[tuple[str, dict[str, float]]],
    parts: Sequence[str],
    names: dict[str, str],
    colours: dict[str, str],
    unit: str,
) -> go.Figure:
    """Draw a stacked bar a run, the first at the top."""
    chart = style.figure(
        BAR * len(rows) + 120, below="", barmode="stack", hovermode="closest", bargap=0.3
    )
    for part in parts:
        values = [known.get(part, 0.0) for _, known in rows]
        if any(values):
            chart.add_bar(
                x=values,
                y=[escape(label) for label, _ in rows],
                orientation="h",
                name=names.get(part, part),
                marker={"color": colours[part]},
                hovertemplate="%{x:.3~r}" + unit + "<extra>" + names.get(part, part) + "</extra>",
            )
    chart.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    chart.update_xaxes(ticksuffix=unit, unifiedhovertitle=None)
    chart.update_layout(legend={"traceorder": "normal"})
    return chart
