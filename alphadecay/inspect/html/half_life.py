"""In how many steps decay alone would halve the weights, over the refreshes of a run."""

from __future__ import annotations

from alphadecay.inspect.html import heatmaps
from alphadecay.inspect.html.page import Chart
from alphadecay.inspect.html.refreshes import has_any, read_refreshes
from alphadecay.inspect.run.reader import Run

KEYS = {"half_life_steps": "half_life_steps", "cumulative_decay": "cumulative_decay"}
ABOUT = (
    "At a step's learning rate decay alone halves a weight in ln 2 / (lr·λ) steps; Σ lr·λ is what "
    "it has taken so far, of which e^−Σ is left."
)
CAUTIOUS = " decay.cautious spares weights: they halve later, and less is taken."


def half_life(run: Run) -> tuple[str, list[Chart]]:
    """Return what is to be said of the half-lives, and their charts.

    There are none where fewer than two refreshes recorded a decay by module, or where it is no
    share of the weights.
    """
    read = read_refreshes(run.of("refresh"), KEYS, ("half_life_steps",))
    if read is None or len(read.steps) < 2 or not decays_weights(run):
        return "", []
    if not has_any(read, "half_life_steps"):
        return "", []
    steps = heatmaps.trajectories(read, "half_life_steps")
    # a small rate at either end of the run makes it many times the usual
    steps.update_yaxes(type="log", dtick="D2", tickformat="~s")
    charts = [Chart("half-life", "Half-life under decay alone, steps", steps)]
    if "cumulative_decay" in read.values:
        sums = heatmaps.trajectories(read, "cumulative_decay")
        charts.append(Chart("cumulative-decay", "Σ lr·λ so far", sums))
    text = ABOUT + _tokens(run) + (CAUTIOUS if is_cautious(run) else "")
    return text, charts


def decays_weights(run: Run) -> bool:
    """Return whether decay takes lr·λ of the weights, and is no penalty on the gradients."""
    return run.setting("optim", "name") not in ("adam", "sgd")


def is_cautious(run: Run) -> bool:
    """Return whether decay leaves out what the optimizer's step takes away from zero."""
    return bool(run.setting("decay", "cautious"))


def _tokens(run: Run) -> str:
    """Say how many tokens a step of these half-lives has."""
    last = run.of("refresh")[-1]
    steps = last.get("half_life_steps") or {}
    tokens = last.get("half_life_tokens") or {}
    a_step = [tokens[name] / value for name, value in steps.items() if value and tokens.get(name)]
    return f" A step has {round(a_step[0]):,} tokens." if a_step else ""
