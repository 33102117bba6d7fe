"""Spectra of chosen modules, with the tail that α is fitted to, from the weights of a run's newest
checkpoint.

Shapes: weight_MN the float32 master, K = min(M, N), gram_KK, eigenvalues_K ascending, in the unit
    of the weight, squared.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alphadecay.spectral import Estimate, Status, eigenvalues, to_estimate
from alphadecay.spectral import estimate as estimate_weight
from train import checkpoint
from train.errors import UserError
from train.exports.masters import read_masters
from train.results.heatmap import layer_and_type
from train.results.html.gather import Run

MOST = 24  # modules that a report draws


@dataclass(frozen=True)
class Esd:
    """The empirical spectral density of one module.

    Args:
        name: of the weight.
        shape: (M, N).
        eigenvalues: [K] float64; of all windows together under the method farms; none where the
            weight is zero or not finite.
        estimate: the fit of its tail.
    """

    name: str
    shape: tuple[int, int]
    eigenvalues: NDArray[np.float64]
    estimate: Estimate


@dataclass(frozen=True)
class Spectra:
    """Args:
    esds: of the modules chosen; none where no weights could be read.
    step: of the checkpoint; None without.
    note: why there are none, or which newer checkpoint was passed over; empty mostly.
    """

    esds: list[Esd]
    step: int | None
    note: str = ""


def measure(run: Run, patterns: Sequence[str] = ()) -> Spectra:
    """Spectra of the modules that match `patterns`, by default those of the smallest, the median
    and the largest α. Float64.

    Raises:
        UserError: a pattern matches no weight, or all together match too many.
    """
    notes: list[str] = []
    try:
        found = checkpoint.find("auto", run.folder / checkpoint.FOLDER, notes.append)
        if found is None:
            return Spectra(
                [],
                None,
                "this run has no checkpoint yet, so no weights: nothing in "
                f"{run.folder / checkpoint.FOLDER}",
            )
        weights = read_masters(found.path / checkpoint.STATE)
    # a broken file raises much; a run that goes on may remove it meanwhile. The rest of the page
    # stands
    except Exception as error:
        return Spectra([], None, "; ".join([*notes, f"no weights could be read: {error}"]))
    matrices = {
        name: weight
        for name, weight in weights.items()
        if weight.dim() == 2 and min(weight.shape) > 1
    }
    refreshes = [record["alphas"] for record in run.of("refresh") if record.get("alphas")]
    names = choose(patterns, list(matrices), refreshes[-1] if refreshes else {})
    return Spectra([esd(name, matrices[name], run) for name in names], found.step, "; ".join(notes))


def choose(
    patterns: Sequence[str], names: Sequence[str], alphas: Mapping[str, float | None]
) -> list[str]:
    """Of `names`, those that match; without patterns the smallest, median and largest α, or first,
    middle and last of the layers.

    Raises:
        UserError: as `measure`.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            within = [f"*{pattern}*"] if any(pattern in name for name in names) else []
            near = (
                within
                or difflib.get_close_matches(pattern, names, n=1, cutoff=0.3)
                or list(names[:1])
            )
            raise UserError(
                f"--modules {pattern!r} matches no weight of the checkpoint; patterns are of whole "
                f"names, such as {near[0]!r}"
            )
    if patterns:
        found = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
        if len(found) > MOST:
            raise UserError(
                f"--modules {' '.join(patterns)} matches {len(found)} weights; a report draws "
                f"{MOST} at most"
            )
        return found
    known = [
        (alpha, name)
        for name in names
        if (alpha := alphas.get(name)) is not None and math.isfinite(alpha)
    ]
    ordered = [name for _, name in sorted(known)] or [
        name for name in names if layer_and_type(name)[0] >= 0
    ]
    return (
        list(dict.fromkeys(ordered[i] for i in (0, len(ordered) // 2, len(ordered) - 1)))
        if ordered
        else []
    )


def esd(name: str, weight_MN: Tensor, run: Run) -> Esd:
    """Spectrum and fit of one weight, fitted as the run's decay section says."""
    shape = (weight_MN.shape[0], weight_MN.shape[1])
    method = "farms" if run.method == "farms" else "gram"
    published = run.setting("decay", "compat", "") == "published"
    values_K = eigenvalues(weight_MN, method=method)
    row = estimate_weight(
        weight_MN,
        method=method,
        tail=run.setting("decay", "tail", "hill"),
        published=published,
        precision=torch.float64,
    )
    estimate = to_estimate(row.pack().tolist())
    usable = estimate.status not in (Status.NOT_FINITE, Status.ZERO)
    return Esd(name, shape, values_K.numpy() if usable else np.empty(0), estimate)
