"""The page: sections of text and charts in one file that asks no network for anything.

What comes from the run is escaped wherever it stands: in HTML, in chart labels (plotly reads a
    little HTML there) and in JSON.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

PAPER = "https://arxiv.org/abs/2506.14562"


@dataclass(frozen=True)
class Chart:
    """Args:
    id: of its element, for the script.
    title: plain text.
    figure: what is drawn.
    """

    id: str
    title: str
    figure: go.Figure


@dataclass(frozen=True)
class Section:
    """Args:
    title: plain text.
    text: one paragraph of plain text.
    charts: side by side where there is room.
    controls: HTML above the charts.
    """

    title: str
    text: str
    charts: Sequence[Chart] = ()
    controls: str = ""


def page(
    title: str,
    head: str,
    sections: Iterable[Section],
    tail: str,
    refreshes: Mapping[str, Any] | None,
) -> str:
    """The whole file.

    Args:
        title: plain text.
        head: HTML above the sections.
        tail: HTML below them.
        refreshes: what the script moves the maps with; None leaves them still.
    """
    made = list(sections)
    charts = [chart for section in made for chart in section.charts]
    figures = [{"id": chart.id, **json.loads(chart.figure.to_json())} for chart in charts]
    islands = _island("figures", figures) + _island("refreshes", refreshes)
    scripts = [get_plotlyjs(), _resource("page.js")]
    body = "\n".join(_section(section) for section in made)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>
{_resource("page.css")}</style>
</head>
<body>
<main>
{head}
<noscript><p class="warning">The charts need JavaScript.</p></noscript>
<p class="warning" id="trouble" hidden></p>
{body}
{tail}
</main>
{islands}{"".join(f"<script>{script}</script>" for script in scripts)}
</body>
</html>
"""


def controls_of_maps(steps: Sequence[int]) -> str:
    """Button and slider of the movie; nothing where there is one refresh."""
    if len(steps) < 2:
        return ""
    last = len(steps) - 1
    return (
        '<div class="controls"><button id="play" type="button">Play</button>'
        f'<input id="refresh" type="range" min="0" max="{last}" value="{last}" '
        'aria-label="refresh">'
        f'<output id="when" for="refresh">step {steps[-1]:,}</output>'
        '<label><input id="own" type="checkbox"> colours for this refresh alone</label></div>'
    )


def controls_of_trajectories(types: Sequence[str], refreshes: int) -> str:
    """The choice between all types and the layers of one."""
    if refreshes < 2:
        return ""
    options = "".join(
        f'<option value="{index}">{escape(name)}: every layer</option>'
        for index, name in enumerate(types)
    )
    return (
        '<div class="controls"><label for="type">Show</label>'
        '<select id="type"><option value="-1">all types: median of the '
        f"layers</option>{options}</select></div>"
    )


def definitions(facts: Iterable[tuple[str, str]]) -> str:
    """Label and text as a list of small cards."""
    return (
        "<dl>"
        + "".join(
            f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>" for label, text in facts
        )
        + "</dl>"
    )


def folded(title: str, content: str) -> str:
    """Content (HTML) under a line that opens it."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _section(section: Section) -> str:
    cards = "".join(
        f'<div class="card"><h3>{_breakable(chart.title)}</h3>'
        f'<div class="chart" id="{chart.id}" '
        f'style="height:{chart.figure.layout.height}px"></div></div>'
        for chart in section.charts
    )
    charts = f'<div class="charts">{cards}</div>' if cards else ""
    return f"<section><h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>{section.controls}{charts}</section>"


def _breakable(text: str) -> str:
    """Escaped; a dotted name may be broken after its dots."""
    return escape(text).replace(".", ".<wbr>")


def _island(name: str, value: Any) -> str:
    """JSON for the script to read. Without < no text in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).replace(
        "<", "\\u003c"
    )
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _policy(scripts: Iterable[str]) -> str:
    """Nothing from anywhere, and no script but these, by their hashes."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"


def _resource(name: str) -> str:
    return files("train.reporting.html").joinpath(name).read_text(encoding="utf-8")
