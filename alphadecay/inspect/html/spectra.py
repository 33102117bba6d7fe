"""Spectra of chosen modules, with the tail that α is fitted to, from the weights of a run's newest
checkpoint.

Shapes: weight_MN the float32 master, K = min(M, N), eigenvalues_K ascending, in the unit of the
weight, squared.
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

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.module_names import layer_and_type
from alphadecay.inspect.run.checkpoints import newest_complete
from alphadecay.inspect.run.reader import Run
from alphadecay.inspect.run_folder import CHECKPOINTS, step_of
from alphadecay.inspect.sources import StoredTensor
from alphadecay.inspect.sources.own_checkpoint import open_checkpoint
from alphadecay.spectral import Estimate, Status, eigenvalues, to_estimate
from alphadecay.spectral import estimate as estimate_weight

MOST = 24  # modules that a report draws


class UnmatchedPattern(InspectError):
    """A pattern of --modules that cannot be meant."""


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
    """The spectra that a report draws.

    Args:
        esds: of the modules chosen; none where no weights could be read.
        step: of the checkpoint; None without.
        note: why there are none, or which newer checkpoint was passed over; empty mostly.
    """

    esds: list[Esd]
    step: int | None
    note: str = ""


def measure(run: Run, patterns: Sequence[str] = ()) -> Spectra:
    """Take the spectra of the modules that match `patterns`, by default those of the smallest, the
    median and the largest α.

    Only their weights are read, and nothing is hashed: the loader runs no code of a file.

    Raises:
        InspectError: a pattern matches no weight, or all together match too many.
    """
    notes: list[str] = []
    folder = run.folder / CHECKPOINTS
    refreshes = [record["alphas"] for record in run.of("refresh") if record.get("alphas")]
    alphas = refreshes[-1] if refreshes else {}
    try:
        newest = newest_complete(folder, notes.append)
        if newest is None:
            return Spectra([], None, f"no checkpoint yet, so no weights: nothing in {folder}")
        stored = open_checkpoint(newest).tensors
        matrices = {
            name: weight
            for name, weight in stored.items()
            if len(weight.shape) == 2 and min(weight.shape) > 1
        }
        names = choose(patterns, list(matrices), alphas)
        weights = {name: _matrix(matrices[name]) for name in names}
    except UnmatchedPattern:
        raise
    # a broken file raises much; a run that goes on may remove it meanwhile. The rest of the page
    # stands
    except Exception as error:
        return Spectra([], None, "; ".join([*notes, f"no weights could be read: {error}"]))
    esds = [esd(name, weight_MN, run) for name, weight_MN in weights.items()]
    return Spectra(esds, step_of(newest), "; ".join(notes))


def _matrix(stored: StoredTensor) -> Tensor:
    return stored.read().float().view(stored.shape)


def choose(
    patterns: Sequence[str], names: Sequence[str], alphas: Mapping[str, float | None]
) -> list[str]:
    """Return the names that match; without patterns those of the smallest, median and largest α, or
    the first, middle and last of the layers.

    Raises:
        UnmatchedPattern: a pattern matches no name, or all together match too many.
    """
    for pattern in patterns:
        _check_pattern(pattern, names)
    if patterns:
        chosen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
        if len(chosen) > MOST:
            raise UnmatchedPattern(
                f"--modules {' '.join(patterns)} matches {len(chosen)} weights; a report draws "
                f"{MOST} at most"
            )
        return chosen
    known = [
        (alpha, name)
        for name in names
        if (alpha := alphas.get(name)) is not None and math.isfinite(alpha)
    ]
    ordered = [name for _, name in sorted(known)]
    ordered = ordered or [name for name in names if layer_and_type(name)[0] >= 0]
    if not ordered:
        return []
    places = (0, len(ordered) // 2, len(ordered) - 1)
    return list(dict.fromkeys(ordered[place] for place in places))


def _check_pattern(pattern: str, names: Sequence[str]) -> None:
    if any(fnmatchcase(name, pattern) for name in names):
        return
    near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.3) or list(names[:1])
    if any(pattern in name for name in names):
        near = [f"*{pattern}*"]
    example = f", such as {near[0]!r}" if near else ""
    raise UnmatchedPattern(
        f"--modules {pattern!r} matches no weight of the checkpoint; patterns are of whole names"
        f"{example}"
    )


def esd(name: str, weight_MN: Tensor, run: Run) -> Esd:
    """Take the spectrum of one weight, and fit its tail as the run's decay section says."""
    rows, columns = weight_MN.shape
    method = "farms" if run.method == "farms" else "gram"
    row = estimate_weight(
        weight_MN,
        method=method,
        tail=run.setting("decay", "tail", "hill"),
        published=run.setting("decay", "compat", "") == "published",
        precision=torch.float64,
    )
    estimate = to_estimate(row.pack().tolist())
    if estimate.status in (Status.NOT_FINITE, Status.ZERO):
        return Esd(name, (rows, columns), np.empty(0), estimate)
    values_K = eigenvalues(weight_MN, method=method)
    return Esd(name, (rows, columns), values_K.numpy(), estimate)
