"""A run as one page: what is gathered, drawn and put in order."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

from alphadecay.spectral import Status
from train.reporting.html import curves, heatmaps, spectrum_plot
from train.reporting.html.page import (
    PAPER,
    Chart,
    Section,
    controls_of_maps,
    controls_of_trajectories,
    definitions,
    folded,
    page,
)
from train.reporting.html.refreshes import Refreshes, read_refreshes
from train.reporting.html.run_reader import Run
from train.reporting.html.spectra import Esd, Spectra, measure
from train.reporting.html.style import layer_colours
from train.reporting.html.summary_cards import facts, headline, version_facts

COLOURED = ("finished", "running", "stopped", "failed")  # states that page.css knows
NOTICES = 200  # shown, the last ones
# methods that record something else in α's place
SCORES = {"frobenius_norm": "Frobenius norm", "spectral_norm": "Spectral norm"}


def render(run: Run, patterns: Sequence[str] = ()) -> str:
    """The report.

    Args:
        patterns: shell patterns of the weights whose spectra are drawn; none takes three by their
            α.

    Raises:
        UserError: a pattern matches no weight, or too many.
    """
    refreshes = read_refreshes(run.of("refresh"))
    sections = [
        Section(
            "Loss and perplexity",
            _about_loss(run),
            [
                Chart("loss", "Loss, nats per token", curves.loss(run)),
                Chart("perplexity", "Perplexity", curves.perplexities(run)),
            ],
        ),
        *_by_module(run, refreshes),
        _spectra(run, measure(run, patterns)),
        _time(run),
    ]
    moved = _for_script(refreshes) if refreshes is not None else None
    return page(f"{run.name}: report", _head(run), sections, _tail(run), moved)


def _head(run: Run) -> str:
    state, line = headline(run)
    kind = escape(state) if state in COLOURED else "unknown"
    banner = f'<div class="state {kind}"><b>{escape(state)}</b> at {escape(line)}</div>'
    return f"<h1>{escape(run.name)}</h1>{banner}{definitions(facts(run))}"


def _about_loss(run: Run) -> str:
    if not run.of("train"):
        return "No training step has been recorded yet."
    refreshes = len(run.of("refresh"))
    return "Training and validation." + (
        " Ticks at the foot are refreshes of the decays." if 0 < refreshes <= curves.FEW else ""
    )


def _by_module(run: Run, found: Refreshes | None) -> list[Section]:
    if found is None:
        return [Section("α and decay by module", _without_refreshes(run))]
    names = {"alpha": SCORES.get(run.method, "α"), "decay": "Weight decay"}
    title = f"{names['alpha']} and weight decay" if "alpha" in found.values else names["decay"]
    pictures = [
        Chart(f"map-{quantity}", names[quantity], heatmaps.heat_map(found, quantity))
        for quantity in found.values
    ]
    lines = [
        Chart(
            f"lines-{quantity}",
            f"{names[quantity]} over steps",
            heatmaps.trajectories(found, quantity),
        )
        for quantity in found.values
    ]
    band = (
        "Each line is the median of a type's layers, its band the middle half of them."
        if len(found.layers) > 2
        else ""
    )
    still = Section(
        f"{title} by layer and type",
        _about_maps(run, found),
        pictures,
        controls_of_maps(found.steps),
    )
    moving = Section(
        "Trajectories", band, lines, controls_of_trajectories(found.types, len(found.steps))
    )
    return [still, moving] if len(found.steps) > 1 else [still]


def _about_maps(run: Run, found: Refreshes) -> str:
    parts = ["A row a layer, a column a type of weight; the colours hold for all refreshes."]
    if "alpha" in found.values and run.method not in SCORES:
        parts.append(
            "A small α, a heavy tail, is read as strong learned features: those decay least."
        )
    if found.found > len(found.steps):
        parts.append(f"{len(found.steps)} of {found.found:,} refreshes are here, evenly spaced.")
    return " ".join(parts) + _without_alpha(run)


def _without_refreshes(run: Run) -> str:
    if run.method in ("uniform", "none"):
        base = run.setting("optim", "weight_decay")
        return f"None: decay.method is {run.method}, " + (
            f"one decay for all, {base}." if run.method == "uniform" else "no decay at all."
        )
    return "None: no refresh has been recorded yet."


def _without_alpha(run: Run) -> str:
    statuses = (run.of("refresh") or [{}])[-1].get("statuses") or {}
    labels = {status.label: status for status in Status}
    stated = [
        f"{name} is {label.replace('_', ' ')}: "
        f"{labels[label].advice if label in labels else 'no fit'}"
        for name, label in list(statuses.items())[:3]
    ]
    return (
        f" Without an α at the last refresh: {len(statuses)}; {'. '.join(stated)}."
        if stated
        else ""
    )


def _spectra(run: Run, found: Spectra) -> Section:
    title = "Spectra and fitted tails"
    if not found.esds:
        return Section(title, f"None: {found.note or 'the checkpoint holds no matrix of a layer'}.")
    text = (
        f"Eigenvalues of WᵀW at the checkpoint of step {found.step:,}, as a density on logarithmic "
        "axes; the dotted line is where the tail "
        "begins. α is fitted here, to the float32 weights; --modules chooses others."
    )
    pooled = (
        " The spectrum is that of all windows together, as the method farms takes it."
        if run.method == "farms"
        else ""
    )
    charts = [
        Chart(f"esd-{i}", _label(esd), spectrum_plot.density(esd))
        for i, esd in enumerate(found.esds)
    ]
    return Section(title, f"{text}{pooled}{f' Note: {found.note}.' if found.note else ''}", charts)


def _label(esd: Esd) -> str:
    fit = esd.estimate
    without = "" if fit.status is Status.OK else f"; no α: {fit.status.label}, {fit.status.advice}"
    return f"{esd.name} ({esd.shape[0]} × {esd.shape[1]}){without}"


def _time(run: Run) -> Section:
    figure = curves.step_parts(run)
    if figure is None:
        return Section("Where the time went", "Nothing was timed.")
    text = (
        "Seconds a step by part, mean over the ranks and over the steps between two training lines."
    )
    return Section("Where the time went", text, [Chart("parts", "Seconds a step", figure)])


def _tail(run: Run) -> str:
    whose, versions = version_facts(run)
    notices = run.of("notice")
    rows = "".join(
        f"<tr><td>{record['step']:,}</td><td>{escape(str(record.get('notice', '')))}</td></tr>"
        for record in notices[-NOTICES:]
    )
    config = folded("Resolved configuration", f"<pre>{escape(run.config_text)}</pre>")
    parts = [
        folded(f"Notices ({len(notices)})", f"<table><tr><th>step</th><th></th></tr>{rows}</table>")
        if notices
        else "",
        config if run.config_text else "<p>This run has no config.yaml.</p>",
        folded(f"Versions {whose}", definitions(versions)),
        f'<p>α and the decay made of it: <a href="{PAPER}" rel="noreferrer">AlphaDecay, arXiv '
        "2506.14562</a>.</p>",
    ]
    return "".join(parts)


def _for_script(found: Refreshes) -> dict[str, Any]:
    """What page.js moves: float32 of [refresh, layer, type], little-endian, in base64."""
    values = {
        name: base64.b64encode(cube.astype("<f4").tobytes()).decode()
        for name, cube in found.values.items()
    }
    layers, types = ([escape(name) for name in names] for names in (found.layers, found.types))
    return {
        "steps": found.steps,
        "layers": layers,
        "types": types,
        "values": values,
        "colours": layer_colours(len(layers)),
    }
