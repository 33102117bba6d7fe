"""How a run forgets text that it has seen once, beside how much decay has left of that step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from alphadecay.inspect.html import style
from alphadecay.inspect.html.half_life import decays_weights, half_life, is_cautious
from alphadecay.inspect.html.page import Chart, Section
from alphadecay.inspect.run.reader import Run

ABOUT = (
    "Rows of one step, followed: how much lower their loss is than held-out text's, less what it "
    "was before the step."
)
BOUND = (
    " What a step wrote into the weights decays by 1 − lr·λ at every later one; the dashed line is "
    "what that leaves of the first advantage (arXiv 2410.03249), e^−Σ with the mean over the "
    "modules of Σ lr·λ since. Below it the run forgets for other reasons than decay: other updates "
    "write over it."
)
CAUTIOUS = " decay.cautious spares weights, and the dashed line is the least that decay leaves."


@dataclass(frozen=True)
class Advantage:
    """The loss advantage of rows seen at one step.

    Args:
        steps: of the validations.
        values: the advantage at each, nats per token.
        bounds: what decay leaves of the first one after the step; None before it.
    """

    steps: list[int]
    values: list[float]
    bounds: list[float | None]


def advantage(run: Run, seen: int) -> Advantage | None:
    """Work out the advantage of the rows of step `seen`; None without a validation after it."""
    records = [r for r in run.of("validation") if None not in (r.get("probe_loss"), r["val_loss"])]
    steps = [int(record["step"]) for record in records]
    gaps = [record["val_loss"] - record["probe_loss"] for record in records]
    before = [gap for step, gap in zip(steps, gaps, strict=True) if step < seen]
    after = [place for place, step in enumerate(steps) if step >= seen]
    if not before or not after:
        return None
    usual = math.fsum(before) / len(before)
    values = [gap - usual for gap in gaps]
    first = after[0]
    start = _decayed(run, steps[first])
    bounds = [
        values[first] * math.exp(start - _decayed(run, step)) if place >= first else None
        for place, step in enumerate(steps)
    ]
    return Advantage(steps, values, bounds)


def forgetting(run: Run) -> list[Section]:
    """Return the section of a run that followed rows, with the half-lives; nothing of another."""
    seen = run.setting("eval", "probe_step")
    found = advantage(run, seen) if isinstance(seen, int) and seen else None
    if found is None:
        return []
    chart = style.figure(hovermode="x unified")
    lines: dict[str, tuple[Sequence[float | None], str]] = {"advantage": (found.values, "solid")}
    about = ABOUT
    if decays_weights(run):
        lines["what decay leaves"] = (found.bounds, "dash")
        about += BOUND + (CAUTIOUS if is_cautious(run) else "")
    for place, (name, (values, dash)) in enumerate(lines.items()):
        chart.add_scatter(
            x=found.steps,
            y=values,
            name=name,
            mode="lines+markers",
            line={"color": style.TYPES[place], "width": 2, "dash": dash},
            hovertemplate="%{y:.4~r}",
        )
    title = f"Loss advantage of the rows of step {seen:,}, nats per token"
    text, charts = half_life(run)
    about = f"{about} {text}".strip()
    return [Section("Forgetting", about, [Chart("forgetting", title, chart), *charts])]


def _decayed(run: Run, step: int) -> float:
    """Return Σ lr·λ, the mean over modules, by the last training line up to a step."""
    sums = [r.get("cumulative_decay_mean") for r in run.of("train") if r["step"] <= step]
    known = [value for value in sums if value is not None]
    return float(known[-1]) if known else 0.0
