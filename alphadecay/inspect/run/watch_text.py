"""Writes a run under way for a terminal of 80 columns: how it stands, α and decays by type."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from alphadecay.inspect.module_names import NO_LAYER, layer_and_type
from alphadecay.inspect.run.grid import figures, grid
from alphadecay.inspect.run.metrics import Record, figure_of
from alphadecay.inspect.run.reader import UNMEASURED
from alphadecay.inspect.run.words import number_or_dash

WIDTH = 80
HISTORY = 16  # refreshes in the small curve of a type
MOST_TYPES = 24  # lines; stacks of experts have a type each
_BLOCKS = "▁▂▃▄▅▆▇█"
_LONGEST_TYPE = 16


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Args:
        name: its own.
        method: of decay; empty where nothing says.
        score: what stands in alpha's place, "alpha" mostly.
        state: running, stopped, finished or failed; empty where nothing says.
        steps: of the whole run; None where nothing says.
        records: of metrics.jsonl.
    """

    name: str
    method: str
    score: str
    state: str
    steps: int | None
    records: Sequence[Record]

    def of(self, kind: str) -> list[Record]:
        """Return the records of one kind."""
        return [record for record in self.records if record["kind"] == kind]


def snapshot_lines(shot: Snapshot) -> Iterator[str]:
    """Yield how the run stands, and its last refresh by type of weight."""
    yield _cut(f"{shot.name}: {_standing(shot)}")
    if figures_now := _figures(shot):
        yield _cut(figures_now)
    refreshes = shot.of("refresh")
    yield ""
    if not refreshes:
        yield _no_refresh(shot)
        return
    yield _cut(refresh_line(refreshes[-1], shot.score))
    yield ""
    yield from _by_type(refreshes, shot.score)


def refresh_line(record: Record, score: str) -> str:
    """Return a refresh in a line: the middle, the least and the largest of each."""
    words = []
    alphas = _known(record.get("alphas"))
    if alphas:
        low = min(alphas, key=alphas.__getitem__)
        high = max(alphas, key=alphas.__getitem__)
        words.append(
            f"{score} {median(alphas.values()):.2f}, {alphas[low]:.2f} ({_short(low)}) to "
            f"{alphas[high]:.2f} ({_short(high)})"
        )
    decays = _known(record.get("weight_decays"))
    if decays:
        low_decay = figures(min(decays.values()))
        words.append(f"decay {low_decay} to {figures(max(decays.values()))}")
    if record.get("refresh_seconds"):
        words.append(f"{record['refresh_seconds']:.2g} s")
    return f"step {record['step']:,}: {', '.join(words) or 'nothing was measured'}"


def _standing(shot: Snapshot) -> str:
    last = max((record["step"] for record in shot.records), default=0)
    of = f" of {shot.steps:,}" if shot.steps else ""
    method = f", {shot.method}" if shot.method else ""
    return f"{shot.state or 'state unknown'} at step {last:,}{of}{method}"


def _figures(shot: Snapshot) -> str:
    trained = (shot.of("train") or [{}])[-1]
    validated = (shot.of("validation") or [{}])[-1]
    figure = figure_of(shot.of("validation"))
    words = [
        f"{name} {number_or_dash(value, form)}"
        for name, value, form in (
            ("loss", trained.get("loss"), "{:.4f}"),
            (f"validation {figure.label}", validated.get(figure.name), ""),
            ("tokens/s", trained.get("tokens_per_second"), ""),
        )
        if value is not None
    ]
    return ", ".join(words)


def _no_refresh(shot: Snapshot) -> str:
    if shot.method in UNMEASURED:
        return f"No refreshes: the method {shot.method} measures no alpha."
    return "No refresh has been recorded yet."


def _by_type(refreshes: Sequence[Record], score: str) -> Iterator[str]:
    """Yield a line for each type: the least, middle and largest of its layers, and how its middle
    has moved.
    """
    last = refreshes[-1]
    alphas, decays = _columns(last.get("alphas")), _columns(last.get("weight_decays"))
    past = [_columns(record.get("alphas")) for record in refreshes[-HISTORY:]]
    kinds = list(dict.fromkeys([*alphas, *decays]))
    width = min(_LONGEST_TYPE, max(map(len, ["type", *kinds])))
    curve = f"middle, {len(past)} refreshes" if len(past) > 1 and alphas else ""
    heading = f"{score} of the layers"
    room = max(20, len(heading))
    yield _cut(f"{'type':<{width}}  {heading:>{room}}  {'decay':>20}  {curve}".rstrip())
    for kind in kinds[:MOST_TYPES]:
        middles = [median(one[kind]) if one.get(kind) else None for one in past]
        yield _cut(
            f"{kind[:width]:<{width}}  {_three(alphas.get(kind), '{:.2f}'):>{room}}  "
            f"{_three(decays.get(kind)):>20}  {_curve(middles) if len(past) > 1 else ''}".rstrip()
        )
    if len(kinds) > MOST_TYPES:
        yield f"and {len(kinds) - MOST_TYPES:,} more types"


def _columns(values: Mapping[str, Any] | None) -> dict[str, list[float]]:
    """Return the values of each type that are known."""
    if not values:
        return {}
    table, _, kinds = grid(values)
    columns = {kind: [float(v) for v in table[:, i]] for i, kind in enumerate(kinds)}
    return {
        kind: known
        for kind, column in columns.items()
        if (known := [value for value in column if math.isfinite(value)])
    }


def _three(values: Sequence[float] | None, form: str = "") -> str:
    if not values:
        return "-"
    three = (min(values), median(values), max(values))
    return " ".join(form.format(value) if form else figures(value) for value in three)


def _curve(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    last = len(_BLOCKS) - 1
    return "".join(
        " " if value is None else _BLOCKS[round(last * (value - low) / span) if span else last // 2]
        for value in values
    )


def _known(values: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: value for name, value in (values or {}).items() if value is not None}


def _short(name: str) -> str:
    layer, kind = layer_and_type(name)
    return kind if layer == NO_LAYER else f"{layer} {kind}"


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def end_line(shot: Snapshot) -> str:
    """Return how a run has ended, in a line."""
    figures_now = _figures(shot)
    return _cut(f"{_standing(shot)}{': ' if figures_now else ''}{figures_now}")
