"""The page of what changed between two models."""

from __future__ import annotations

import math
from html import escape

import plotly.graph_objects as go

from alphadecay.inspect.analysis.differences import Change, Difference
from alphadecay.inspect.analysis.page import in_title, plain_page
from alphadecay.inspect.analysis.quality import QUALITY
from alphadecay.inspect.html.heatmaps import heat_map
from alphadecay.inspect.html.page import Chart, Section, render_page
from alphadecay.inspect.html.refreshes import read_refreshes
from alphadecay.inspect.html.style import TRAINING, VALIDATION, figure
from alphadecay.inspect.terminal import number

MOST_BARS = 60  # of the largest changes
ROW = 20  # pixels of a bar


def render(difference: Difference) -> str:
    """Return the page."""
    both = f"{difference.first} and {difference.second}"
    cards = [
        (in_title(QUALITY[name][1]), f"{number(before, '.4g')} → {number(after, '.4g')}")
        for name, (before, after) in difference.quality.items()
    ]
    sections = [_bars(difference), *_map(difference), _table(difference), *_rest(difference)]
    standing = f"{len(difference.changes)} weights that both have."
    return render_page(plain_page(both, standing, sections, cards))


def bars(changes: list[Change]) -> go.Figure:
    """Draw a bar a weight, to the left for a lower alpha and to the right for a higher."""
    chart = figure(
        ROW * max(8, len(changes)) + 70,
        below="change of α",
        hovermode="closest",
        margin={"l": 10, "r": 10, "t": 10, "b": 48},
    )
    chart.add_bar(
        x=[change.delta for change in changes],
        y=[escape(change.name) for change in changes],
        orientation="h",
        marker={"color": [TRAINING if change.delta < 0 else VALIDATION for change in changes]},
        hovertemplate="%{y}: %{x:+.4f}<extra></extra>",
    )
    chart.update_yaxes(autorange="reversed", tickfont={"size": 10})
    return chart


def _bars(difference: Difference) -> Section:
    known = [change for change in difference.changes if math.isfinite(change.delta)]
    chart = Chart("deltas", "Change of α", bars(known[:MOST_BARS]))
    text = (
        "The largest changes first: to the left α fell, its tail is heavier; to the right it rose."
    )
    if len(known) > MOST_BARS:
        text += f" {MOST_BARS} of {len(known)} are drawn; the table has all."
    return Section("What changed", text, [chart])


def _map(difference: Difference) -> list[Section]:
    deltas = {one.name: one.delta for one in difference.changes if math.isfinite(one.delta)}
    refreshes = read_refreshes([{"step": 0, "alphas": deltas}])
    if refreshes is None:
        return []
    chart = Chart("map-delta", "Change of α", heat_map(refreshes, "alpha"))
    return [Section("By layer and type", "A row a layer, a column a type of weight.", [chart])]


def _table(difference: Difference) -> Section:
    head = ["weight", "α before", "α after", "change", "decay before", "decay after", "moved"]
    rows = [
        [
            change.name,
            number(change.alphas[0]),
            number(change.alphas[1]),
            number(change.delta, "+.4f"),
            number(change.decays[0], ".4g"),
            number(change.decays[1], ".4g"),
            number(change.distance, ".2%"),
        ]
        for change in difference.changes
    ]
    text = "Moved is the norm of the difference over the norm of the first weight."
    return Section("Every weight", text, table=[head, *rows])


def _rest(difference: Difference) -> list[Section]:
    lists = (
        ("Only in the first", [[name, ""] for name in difference.only_first]),
        ("Only in the second", [[name, ""] for name in difference.only_second]),
        ("Of another shape", [list(one) for one in difference.reshaped.items()]),
        ("Set aside", [list(one) for one in difference.set_aside.items()]),
    )
    return [Section(title, "", table=[["name", ""], *rows]) for title, rows in lists if rows]
