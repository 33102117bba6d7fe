"""The page of an analysis: one file that any browser shows without a network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from alphadecay.inspect.analysis.quality import QUALITY, QUALITY_SOURCE
from alphadecay.inspect.analysis.rows import FIT_SOURCE, Analysis, Row
from alphadecay.inspect.analysis.spectrum import Spectrum
from alphadecay.inspect.html import heatmaps, spectrum_plot
from alphadecay.inspect.html.page import Chart, Page, Section, render_page
from alphadecay.inspect.html.refreshes import read_refreshes
from alphadecay.inspect.html.spectra import Esd
from alphadecay.inspect.module_names import layer_and_type
from alphadecay.inspect.run.versions import versions
from alphadecay.inspect.terminal import number

MOST_TYPES = 40  # columns of a map: more are drawn as one a kind of expert
_TITLES = {"alpha": "α", "decay": "Weight decay"}


def render(analysis: Analysis, spectra: Mapping[str, Spectrum]) -> str:
    """Return the page.

    Args: spectra: those that are drawn, by name of the weight.
    """
    sections = _rest(analysis)
    if analysis.rows:
        measured = [_maps(analysis.rows), _extremes(analysis, spectra), _table(analysis.rows)]
        sections = measured + sections
    cards = [
        *(
            (in_title(words), number(analysis.quality[name], ".4g"))
            for name, (_, words) in QUALITY.items()
        ),
        ("Outside 2 to 6", f"{len(analysis.outside)} of {len(analysis.rows)}"),
        ("Set aside", str(len(analysis.set_aside))),
    ]
    standing = f"{len(analysis.rows)} weights of {analysis.form}."
    settings = "\n".join(f"{name}: {value}" for name, value in analysis.settings.items())
    return render_page(plain_page(analysis.model, standing, sections, cards, settings))


def render_weight(title: str, words: Sequence[str], row: Row, spectrum: Spectrum) -> str:
    """Return the page of one weight: how it comes by its decay, with a picture."""
    chart = density_chart(row.name, row.shape, spectrum, 0)
    first, *others = [_titled(paragraph) for paragraph in words]
    sections = [Section(*first, charts=[chart]), *(Section(*one) for one in others)]
    return render_page(plain_page(row.name, title, sections))


def plain_page(
    name: str,
    standing: str,
    sections: Sequence[Section],
    cards: Sequence[tuple[str, str]] = (),
    settings: str = "",
) -> Page:
    """Return a page that is about no run.

    Args:
        name: its heading.
        standing: a line below it.
        settings: what it was made with.
    """
    return Page(
        name=name,
        state="",
        standing=standing,
        cards=cards,
        sections=sections,
        notices=[],
        notice_count=0,
        config_text=settings,
        versions_of="that measured it",
        versions=[(package, version or "none") for package, version in versions().items()],
        refreshes=None,
    )


def _titled(paragraph: str) -> tuple[str, str]:
    """Return a paragraph's first sentence as its title, and the rest."""
    title, _, text = paragraph.partition(". ")
    return (title, text) if len(title) < 20 else ("Spectrum", paragraph)


def in_title(words: str) -> str:
    """Return words that begin with a capital."""
    return words[0].upper() + words[1:]


def density_chart(name: str, shape: tuple[int, int], spectrum: Spectrum, place: int) -> Chart:
    """Return the picture of a spectrum and its tail."""
    esd = Esd(name, shape, spectrum.eigenvalues.numpy(), spectrum.estimate)
    rows, columns = shape
    return Chart(f"esd-{place}", f"{name} ({rows} × {columns})", spectrum_plot.density(esd))


def _maps(rows: Sequence[Row]) -> Section:
    alphas = _by_kind({row.name: row.alpha for row in rows})
    decays = _by_kind({row.name: row.decay for row in rows})
    record = {"step": 0, "alphas": alphas, "weight_decays": decays}
    refreshes = read_refreshes([record])
    assert refreshes is not None
    charts = [
        Chart(f"map-{name}", _TITLES[name], heatmaps.heat_map(refreshes, name))
        for name in refreshes.values
    ]
    text = (
        "A row a layer, a column a type of weight. A small α, a heavy tail, is read as strong "
        "learned features: those decay least."
    )
    if len(alphas) < len(rows):
        text += " The experts of a layer are drawn as their mean."
    return Section("α and weight decay by layer and type", text, charts)


def _by_kind(values: Mapping[str, float]) -> dict[str, float | None]:
    """Return the values by name, those of many experts as their mean."""
    kinds = {layer_and_type(name)[1] for name in values}
    named: dict[str, list[float]] = {}
    for name, value in values.items():
        layer, kind = layer_and_type(name)
        merged = re.sub(r"\d+", "n", kind) if len(kinds) > MOST_TYPES else kind
        short = f"layers.{layer}.{merged}" if layer >= 0 else merged
        key = name if len(kinds) <= MOST_TYPES else short
        named.setdefault(key, [])
        if math.isfinite(value):
            named[key].append(value)
    return {name: sum(held) / len(held) if held else None for name, held in named.items()}


def _extremes(analysis: Analysis, spectra: Mapping[str, Spectrum]) -> Section:
    charts = [
        density_chart(name, analysis[name].shape, spectrum, place)
        for place, (name, spectrum) in enumerate(spectra.items())
    ]
    text = (
        "Eigenvalues of WᵀW of the weights of the smallest, the median and the largest α, as a "
        "density on logarithmic axes; the dotted line is where the tail begins."
    )
    return Section("Spectra of the extremes", text, charts)


def _table(rows: Sequence[Row]) -> Section:
    head = ["weight", "shape", "α", "KS", "tail", "stable rank", "decay", "beyond", "traps", "note"]
    lines = [
        [
            row.name,
            "×".join(map(str, row.shape)),
            number(row.alpha) if row.status == "ok" else row.status.replace("_", " "),
            number(row.ks_distance),
            f"{row.tail_count} of {row.eigenvalue_count}",
            number(row.stable_rank, ".1f"),
            number(row.decay, ".4g"),
            "" if row.beyond_shuffled is None else str(row.beyond_shuffled),
            "" if row.traps is None else str(row.traps),
            row.note,
        ]
        for row in rows
    ]
    used = [place for place in range(len(head)) if any(line[place] for line in lines)]
    table = [[line[place] for place in used] for line in (head, *lines)]
    return Section("Every weight", f"Measures of the whole: {QUALITY_SOURCE}.", table=table)


def _rest(analysis: Analysis) -> list[Section]:
    outside = [[row.name, f"{row.alpha:.3f}"] for row in analysis.outside]
    sections = []
    if outside:
        sections.append(
            Section("α outside 2 to 6", f"{FIT_SOURCE}.", table=[["weight", "α"], *outside])
        )
    for title, held in (("Set aside", analysis.set_aside), ("Left out", analysis.left_out)):
        if held:
            table = [["name", "why"], *map(list, held.items())]
            sections.append(Section(title, " ".join(analysis.warnings), table=table))
    return sections
