"""What steps and decay did to the weights over a run: rotation, equilibrium, norm, rate."""

from __future__ import annotations

from alphadecay.inspect.html import heatmaps, style
from alphadecay.inspect.html.forgetting import forgetting
from alphadecay.inspect.html.half_life import half_life
from alphadecay.inspect.html.page import Chart, Section
from alphadecay.inspect.html.refreshes import DYNAMICS, has_any, read_refreshes
from alphadecay.inspect.run.reader import Run

NAMES = {
    "rotation": "Rotation a step, radians",
    "equilibrium": "Rotation over that of equilibrium",
    "norm_growth": "Growth of the norm a step, ln",
    "effective_lr": "Effective learning rate",
}
ABOUT = (
    "Where a norm follows a matrix, how far a step turns it is the learning rate that counts, and "
    "decay acts on that through the matrix's norm."
)
BALANCE = (
    " At 1 of the second chart decay and updates balance; above it norms still grow, below it they "
    "still shrink."
)
LINES = " Each line is the median of a type's layers, its band the middle half of them."


def what_decay_does(run: Run) -> list[Section]:
    """Return the sections of a run that measured it (log.dynamics, eval.probe_step) or has its
    decays by module; nothing of another.

    The half-lives are beside what the run forgot, where that was measured.
    """
    forgot = forgetting(run)
    text, charts = ("", []) if forgot else half_life(run)
    read = read_refreshes(run.of("dynamics"), DYNAMICS, ("rotation",))
    if read is not None:
        measured = [
            Chart(f"dynamics-{key}", NAMES[key], heatmaps.trajectories(read, key))
            for key in read.values
            if has_any(read, key)
        ]
        about = ABOUT + (BALANCE if has_any(read, "equilibrium") else "") + LINES
        text = f"{about} {text}".strip()
        charts = measured + _logits(run) + charts
    return [Section("What decay does", text, charts), *forgot] if charts else forgot


def _logits(run: Run) -> list[Chart]:
    """Return the chart of the largest logits at each validation, where they were measured."""
    records = run.of("validation")
    lines = {
        "attention, its bound": [
            max((record.get("attention_logit_bound") or {}).values(), default=None)
            for record in records
        ],
        "output": [record.get("output_logit_max") for record in records],
    }
    chart = style.figure(hovermode="x unified")
    for place, (name, values) in enumerate(lines.items()):
        if any(value is not None for value in values):
            chart.add_scatter(
                x=[record["step"] for record in records],
                y=values,
                name=name,
                mode="lines+markers",
                line={"color": style.TYPES[place], "width": 2},
                hovertemplate="%{y:.3~r}",
            )
    return [Chart("dynamics-logits", "Largest logits", chart)] if chart.data else []
