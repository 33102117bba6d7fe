"""Decides what the page of a run shows, and in which order."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

from alphadecay.inspect.html import curves, heatmaps, spectrum_plot
from alphadecay.inspect.html.dynamics import what_decay_does
from alphadecay.inspect.html.page import Chart, Page, Section, render_page
from alphadecay.inspect.html.refreshes import NAMES, Refreshes, read_refreshes
from alphadecay.inspect.html.spectra import Esd, Spectra, measure
from alphadecay.inspect.html.style import layer_colours
from alphadecay.inspect.html.summary_cards import facts, headline, version_facts
from alphadecay.inspect.run import goodput_words
from alphadecay.inspect.run.metrics import PERPLEXITY, figure_of
from alphadecay.inspect.run.reader import SCORES, UNMEASURED, Run
from alphadecay.inspect.run_folder import ATTEMPTS
from alphadecay.spectral import Status

NOTICES = 200  # shown, the last ones
STATUSES = 3  # weights without an α that are named


def render(run: Run, patterns: Sequence[str] = ()) -> str:
    """Return the report as HTML.

    Args:
        patterns: shell patterns of the weights whose spectra are drawn; none takes three by their
            α.

    Raises:
        InspectError: a pattern matches no weight, or too many.
    """
    refreshes = read_refreshes(run.of("refresh"))
    state, standing = headline(run)
    versions_of, versions = version_facts(run)
    notices = run.of("notice")
    page = Page(
        name=run.name,
        state=state,
        standing=standing,
        cards=facts(run),
        sections=[
            _losses(run),
            *_by_module(run, refreshes),
            *what_decay_does(run),
            _spectra(run, measure(run, patterns)),
            _time(run),
        ],
        notices=[(n["step"], str(n.get("notice", ""))) for n in notices[-NOTICES:]],
        notice_count=len(notices),
        config_text=run.config_text,
        versions_of=versions_of,
        versions=versions,
        refreshes=_for_script(refreshes) if refreshes is not None else None,
    )
    return render_page(page)


def _losses(run: Run) -> Section:
    figure = figure_of(run.of("validation"))
    label = figure.label
    if figure == PERPLEXITY:
        charts = [
            Chart("loss", "Loss, nats per token", curves.loss(run)),
            Chart("perplexity", "Perplexity", curves.perplexities(run)),
        ]
    else:
        charts = [
            Chart("loss", "Loss", curves.loss(run)),
            Chart("figure", f"{label[0].upper()}{label[1:]}", curves.figure_of_merit(run, figure)),
        ]
    return Section(f"Loss and {label}", _about_loss(run), charts)


def _about_loss(run: Run) -> str:
    if not run.of("train"):
        return "No training step has been recorded yet."
    text = "Training and validation."
    if 0 < len(run.of("refresh")) <= curves.FEW:
        text += " Ticks at the foot are refreshes of the decays."
    return text


def _by_module(run: Run, refreshes: Refreshes | None) -> list[Section]:
    if refreshes is None:
        return [Section("α and decay by module", _without_refreshes(run))]
    names = {**NAMES, "alpha": SCORES.get(run.method, "α")}
    both = f"{names['alpha']} and weight decay"
    title = both if "alpha" in refreshes.values else names["decay"]
    maps = [
        Chart(f"map-{quantity}", names[quantity], heatmaps.heat_map(refreshes, quantity))
        for quantity in refreshes.values
    ]
    still = Section(
        f"{title} by layer and type", _about_maps(run, refreshes), maps, steps=refreshes.steps
    )
    return [still, _trajectories(refreshes, names)] if len(refreshes.steps) > 1 else [still]


def _trajectories(refreshes: Refreshes, names: dict[str, str]) -> Section:
    charts = [
        Chart(
            f"lines-{quantity}",
            f"{names[quantity]} over steps",
            heatmaps.trajectories(refreshes, quantity),
        )
        for quantity in refreshes.values
    ]
    text = ""
    if len(refreshes.layers) > 2:
        text = "Each line is the median of a type's layers, its band the middle half of them."
    return Section("Trajectories", text, charts, types=refreshes.types)


def _about_maps(run: Run, refreshes: Refreshes) -> str:
    parts = ["A row a layer, a column a type of weight; the colours hold for all refreshes."]
    if "alpha" in refreshes.values and run.method not in SCORES:
        parts.append(
            "A small α, a heavy tail, is read as strong learned features: those decay least."
        )
    parts += _about_ends(run)
    shown = len(refreshes.steps)
    if refreshes.count > shown:
        parts.append(f"{shown} of {refreshes.count:,} refreshes are here, evenly spaced.")
    return " ".join(parts) + _without_alpha(run)


def _about_ends(run: Run) -> list[str]:
    """Say at what rate learn those that have no α by design."""
    last = run.of("refresh")[-1]
    rates = last.get("lr_ratios") or {}
    ends = [rate for name, rate in rates.items() if name not in (last.get("alphas") or {})]
    return [f"Embeddings and head learn at {ends[0]:.3g} × the scheduled rate."] if ends else []


def _without_refreshes(run: Run) -> str:
    if run.method == "none":
        return "None: decay.method is none, no decay at all."
    if run.method == "uniform":
        base = run.setting("optim", "weight_decay")
        return f"None: decay.method is uniform, one decay for all, {base}."
    if run.method in UNMEASURED:
        return f"None: decay.method is {run.method}, which holds norms and decays nothing."
    return "None: no refresh has been recorded yet."


def _without_alpha(run: Run) -> str:
    statuses = (run.of("refresh") or [{}])[-1].get("statuses") or {}
    if not statuses:
        return ""
    advice = {status.label: status.advice for status in Status}
    stated = [
        f"{name} is {label.replace('_', ' ')}: {advice.get(label, 'no fit')}"
        for name, label in list(statuses.items())[:STATUSES]
    ]
    return f" Without an α at the last refresh: {len(statuses)}; {'. '.join(stated)}."


def _spectra(run: Run, spectra: Spectra) -> Section:
    title = "Spectra and fitted tails"
    if not spectra.esds:
        note = spectra.note or "the checkpoint holds no matrix of a layer"
        return Section(title, f"None: {note}.")
    text = (
        f"Eigenvalues of WᵀW at the checkpoint of step {spectra.step:,}, as a density on "
        "logarithmic axes; the dotted line is where the tail begins. α is fitted here, to the "
        "float32 weights; --modules chooses others."
    )
    if run.method == "farms":
        text += " The spectrum is that of all windows together, as the method farms takes it."
    if spectra.note:
        text += f" Note: {spectra.note}."
    charts = [
        Chart(f"esd-{place}", _label(esd), spectrum_plot.density(esd))
        for place, esd in enumerate(spectra.esds)
    ]
    return Section(title, text, charts)


def _label(esd: Esd) -> str:
    rows, columns = esd.shape
    status = esd.estimate.status
    without = "" if status is Status.OK else f"; no α: {status.label}, {status.advice}"
    return f"{esd.name} ({rows} × {columns}){without}"


def _time(run: Run) -> Section:
    title = "Where the time went"
    whole = _goodput(run)
    parts = curves.step_parts(run)
    if parts is None:
        return Section(title, f"Nothing was timed. {whole}")
    text = (
        f"{whole} Below, seconds a step by part, mean over the ranks and over the steps between "
        "two training lines."
    )
    return Section(title, text, [Chart("parts", "Seconds a step", parts)])


def _goodput(run: Run) -> str:
    """Say how much of the wall time was training, and what the rest was."""
    if run.goodput is None:
        return (
            f"How much of the wall time was training is not known: there is no {ATTEMPTS}, which "
            "earlier versions of the program did not write."
        )
    named = {
        "Training was": goodput_words.headline(run.goodput),
        "The rest:": goodput_words.rest(run.goodput),
        "Note:": goodput_words.remarks(run.goodput),
    }
    return " ".join(f"{label} {text}." for label, text in named.items() if text)


def _for_script(refreshes: Refreshes) -> dict[str, Any]:
    """Return what page.js moves.

    Values are float32 [refresh, layer, type], little-endian, in base64.
    """
    values = {
        name: base64.b64encode(cube.astype("<f4").tobytes()).decode()
        for name, cube in refreshes.values.items()
    }
    return {
        "steps": refreshes.steps,
        "layers": [escape(name) for name in refreshes.layers],
        "types": [escape(name) for name in refreshes.types],
        "values": values,
        "colours": layer_colours(len(refreshes.layers)),
    }
