"""The page: sections of text and charts in one file that asks no network for anything.

Text of a run is escaped wherever it stands: in HTML (by jinja2), in chart labels (plotly reads a
little HTML there) and in JSON.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from alphadecay.inspect.html.style import DARK

PAPER = "https://arxiv.org/abs/2506.14562"

Cards = Sequence[tuple[str, str]]  # label and text of each


@dataclass(frozen=True)
class Chart:
    """One picture.

    Args:
        id: the name of its element, for the script.
        title: plain text.
        figure: what is drawn.
    """

    id: str
    title: str
    figure: go.Figure


@dataclass(frozen=True)
class Section:
    """A heading with its charts. All text is plain.

    Args:
        title: the heading.
        text: one paragraph.
        charts: side by side where there is room.
        steps: the refreshes that a slider above the charts moves over; fewer than two need none.
        types: the module types that a list above the charts chooses from; none needs no list.
        table: rows of cells, the first of them the head; none needs no table.
    """

    title: str
    text: str
    charts: Sequence[Chart] = ()
    steps: Sequence[int] = ()
    types: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Page:
    """Everything on the page, from top to bottom. All text is plain.

    Args:
        name: the run's, or what else the page is about.
        state: how the run stands, in a word; empty where it is no run.
        standing: the line that explains the state, or what the page is about.
        cards: the figures at the top.
        sections: text and charts.
        notices: (step, text) of those shown.
        notice_count: how many the run had.
        config_text: its config.yaml; empty where there is none.
        versions_of: whose versions these are.
        versions: of the packages.
        refreshes: what the script moves the maps with; None leaves them still.
    """

    name: str
    state: str
    standing: str
    cards: Cards
    sections: Sequence[Section]
    notices: Sequence[tuple[int, str]]
    notice_count: int
    config_text: str
    versions_of: str
    versions: Cards
    refreshes: Mapping[str, Any] | None


def render_page(page: Page) -> str:
    """Return the whole HTML file."""
    charts = [chart for section in page.sections for chart in section.charts]
    return render_template("page.html.j2", charts, page.refreshes, page=page)


def render_template(
    name: str, charts: Iterable[Chart], refreshes: Mapping[str, Any] | None = None, **text: Any
) -> str:
    """Return an HTML file made of a template, with its charts, style and script.

    Args:
        name: of the template.
        charts: that it has, in their order.
        refreshes: what the script moves the maps with; None leaves them still.
        text: the template's own values.
    """
    figures = [{"id": chart.id, **json.loads(chart.figure.to_json())} for chart in charts]
    scripts = [get_plotlyjs(), _resource("page.js")]
    template = _templates().get_template(name)
    return template.render(
        **text,
        paper=PAPER,
        policy=_policy(scripts),
        style=Markup(_resource("page.css")),
        scripts=[Markup(script) for script in scripts],
        islands={
            "figures": _island(figures),
            "refreshes": _island(refreshes),
            "dark": _island(DARK),
        },
    )


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("alphadecay.inspect.html", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["breakable"] = _breakable
    environment.filters["thousands"] = "{:,}".format
    return environment


def _breakable(text: str) -> Markup:
    """Escape the text, and let a dotted name be broken after its dots."""
    return escape(text).replace(".", Markup(".<wbr>"))


def _island(value: Any) -> Markup:
    """Return JSON for the script to read; without < no text in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c"))


def _policy(scripts: Iterable[str]) -> str:
    """Allow nothing from anywhere, and no script but these, by their hashes."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    rules = (
        "default-src 'none'",
        f"script-src {' '.join(hashes)}",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join(rules)


def _resource(name: str) -> str:
    return files("alphadecay.inspect.html").joinpath(name).read_text(encoding="utf-8")
