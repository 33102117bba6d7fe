"""From a weight's eigenvalues to its decay, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from alphadecay.inspect.analysis.rows import FIT, Row
from alphadecay.inspect.analysis.spectrum import Spectrum
from alphadecay.spectral import Status

_CUTS = {
    "hill": "the paper's cut-off, the median",
    "goodness_of_fit": "the cut-off at which a power law fits best",
    "fix_finger": "the best cut-off near the peak of the spectrum",
}


def explain_tail(row: Row, spectrum: Spectrum, tail: str) -> Iterator[str]:
    """Yield a paragraph each on the eigenvalues, the tail and alpha."""
    values_K = spectrum.eigenvalues
    fit = spectrum.estimate
    if not len(values_K):
        yield f"It has no spectrum: it is {fit.status.label}: {fit.status.advice}."
        return
    smallest = float(values_K[0].clamp_min(0))
    largest = float(values_K[-1])
    yield (
        f"Eigenvalues. W'W has {len(values_K):,}, from {smallest:.3g} to {largest:.3g}. Together "
        f"they are {row.stable_rank:.1f} times the largest: that is the stable rank."
    )
    if fit.status is not Status.OK:
        yield f"There is no alpha: the weight is {fit.status.label}: {fit.status.advice}."
        return
    share = fit.tail_count / len(values_K)
    yield (
        f"Tail. The {fit.tail_count:,} largest, {share:.0%}, are the tail: it begins at "
        f"{fit.x_min:.3g}, {_CUTS[tail]}."
    )
    mean = 1 / (fit.alpha - 1)
    yield (
        f"Alpha. In the tail ln(eigenvalue / {fit.x_min:.3g}) is {mean:.4f} on average, and alpha "
        f"is 1 + 1/{mean:.4f} = {fit.alpha:.4f}: a power law of that exponent is the likeliest to "
        f"give this tail. The largest gap between the two is {fit.ks_distance:.3f} (Kolmogorov and "
        f"Smirnov's distance){_quality(row)}."
    )


def explain_decay(row: Row, rows: Sequence[Row], settings: dict[str, float | str]) -> str:
    """Return a paragraph on how its alpha among the others' became its decay.

    Args: settings: weight_decay, s1, s2 and assign.
    """
    base = settings["weight_decay"]
    if not row.takes_part or not math.isfinite(row.alpha):
        why = row.note or f"it has no alpha, for it is {row.status}"
        return f"Decay. It keeps the base decay, {base}: {why}."
    alphas = sorted(one.alpha for one in rows if one.takes_part and math.isfinite(one.alpha))
    low = alphas[0]
    high = alphas[-1]
    place = alphas.index(row.alpha) + 1
    text = (
        f"Decay. Of {len(alphas)} weights alpha goes from {low:.4f} to {high:.4f}; this is number "
        f"{place} from below. "
    )
    if settings["assign"] != "linear" or low == high:
        formula = f"The map {settings['assign']} gives {row.ratio:.4f} times the base decay"
    else:
        formula = (
            f"The map is linear: ({row.alpha:.4f} - {low:.4f}) / ({high:.4f} - {low:.4f}) x "
            f"({settings['s2']} - {settings['s1']}) + {settings['s1']} = {row.ratio:.4f} times the "
            "base decay"
        )
    return f"{text}{formula}, {base}: {row.decay:.4g}. {_reading(row)}"


def _quality(row: Row) -> str:
    if row.is_outside:
        return f"; alpha lies outside {FIT[0]:.0f} to {FIT[1]:.0f}, where trained layers have it"
    return ""


def _reading(row: Row) -> str:
    if row.ratio < 1:
        return "A heavy tail is read as features that were learned: it decays less than the base."
    return "A light tail is read as little learned as yet: it decays more than the base."
