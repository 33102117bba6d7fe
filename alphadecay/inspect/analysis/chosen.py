"""Spectra of chosen weights of a model, for pictures and for words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from alphadecay.inspect.analysis.rows import Row
from alphadecay.inspect.analysis.spectrum import Spectrum, take_spectrum
from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.models import Weight, find_weights, matrices
from alphadecay.inspect.sources import BrokenTensor, open_source


def spectra_of(
    weights: Sequence[Weight], names: Sequence[str], tail: str, device: str
) -> dict[str, Spectrum]:
    """Measure the weights of these names, one matrix in memory at a time; one that cannot be read
    is left out.
    """
    chosen = [weight for weight in weights if weight.name in names]
    return {
        weight.name: take_spectrum(weight_MN.to(device), tail)
        for weight, weight_MN in matrices(chosen)
        if not isinstance(weight_MN, BrokenTensor)
    }


def find_one(model: Any, wanted: str, choices: Mapping[str, Any]) -> Weight:
    """Return the one weight that is meant; nothing is read of it.

    Args: choices: include and exclude, as `analyze` takes them.

    Raises:
        InspectError: the model cannot be read, or no weight is meant.
    """
    weights = find_weights(open_source(model), choices["include"], choices["exclude"])
    names = [weight.name for weight in weights.measured]
    aside = [name for name in weights.set_aside if _means(wanted, name)]
    if aside and not any(_means(wanted, name) for name in names):
        raise InspectError(f"{aside[0]} is set aside: {weights.set_aside[aside[0]]}")
    name = only_one(names, wanted)
    [weight] = [weight for weight in weights.measured if weight.name == name]
    return weight


def measure_one(weight: Weight, choices: Mapping[str, Any]) -> Spectrum:
    """Measure one weight.

    Args: choices: tail and device, as `analyze` takes them.

    Raises:
        InspectError: it cannot be read.
    """
    [(_, weight_MN)] = matrices([weight])
    if isinstance(weight_MN, BrokenTensor):
        raise InspectError(f"{weight.name}: {weight_MN}")
    return take_spectrum(weight_MN.to(choices["device"]), choices["tail"])


def _means(wanted: str, name: str) -> bool:
    return wanted in name or fnmatchcase(name, wanted)


def extremes(rows: Sequence[Row]) -> list[str]:
    """Return the names of the smallest, the median and the largest alpha."""
    ordered = [row.name for row in sorted(rows, key=lambda row: row.alpha) if row.status == "ok"]
    if not ordered:
        return []
    places = (0, len(ordered) // 2, len(ordered) - 1)
    return list(dict.fromkeys(ordered[place] for place in places))


def only_one(names: Sequence[str], wanted: str) -> str:
    """Return the name that is meant: itself, or the only one that a shell pattern or a part of it
    matches.

    Raises:
        InspectError: none is, or several are; the message names some.
    """
    if wanted in names:
        return wanted
    found = [name for name in names if fnmatchcase(name, wanted)]
    found = found or [name for name in names if wanted in name]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(found[:5]) + (" ..." if len(found) > 5 else "")
        raise InspectError(f"{wanted!r} matches {len(found)} weights: {some}; name one of them")
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.3) or list(names[:3])
    raise InspectError(f"{wanted!r} matches no weight; there are {', '.join(near)}")
