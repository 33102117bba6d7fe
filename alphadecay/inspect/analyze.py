"""α, scores and decay of every weight of a model: `alphadecay.analyze`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from alphadecay.config import AlphaDecayConfig, Assign, Tail
from alphadecay.inspect.analysis.journal import Journal
from alphadecay.inspect.analysis.quality import quality_of
from alphadecay.inspect.analysis.rows import Analysis, Row
from alphadecay.inspect.analysis.shuffled import compare_shuffled
from alphadecay.inspect.analysis.side_by_side import side_by_side, workers_for
from alphadecay.inspect.analysis.spectrum import Spectrum, precision_of, take_spectrum
from alphadecay.inspect.analysis.watching import Watcher
from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.models import Weight, find_weights, matrices
from alphadecay.inspect.sources import BrokenTensor, open_source
from alphadecay.owners import module_cost
from alphadecay.policy.apply import ratios_of
from alphadecay.spectral import Status

_BROKEN = (Status.NOT_FINITE.label, Status.NOT_CONVERGED.label)


@dataclass(frozen=True)
class _Settings:
    """This is what a row depends on beside the weight."""

    tail: Tail
    randomize: bool
    seed: int
    device: str


def analyze(
    model: str | os.PathLike[str] | nn.Module,
    *,
    weight_decay: float = 0.1,
    s1: float = 0.67,
    s2: float = 5.0,
    assign: Assign = "linear",
    tail: Tail = "hill",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    randomize: bool = False,
    seed: int = 0,
    device: str = "cpu",
    journal: str | os.PathLike[str] | None = None,
    watcher: Watcher | None = None,
) -> Analysis:
    """Measure every weight of a model, and give each the decay that AlphaDecay would.

    Some matrices are in memory at a time, a gibibyte or one. Nothing of a file is executed.

    Args:
        model: a Hugging Face folder, a safetensors file or shard index, a file of torch.save, a run
            or a checkpoint of the pre-training program, a folder of DeepSpeed's or of
            torch.distributed.checkpoint's; or a module in memory.
        weight_decay: the base decay, of which the decays are multiples.
        s1: of the smallest alpha, s2 of the largest, as multiples of the base decay.
        assign: map from alpha to decay.
        tail: how PL_Alpha is fitted.
        include: shell patterns of weights to take instead of every linear weight.
        exclude: shell patterns of weights to leave out.
        randomize: compare each weight with its own shuffled copy.
        seed: of the shuffles.
        device: where spectra are computed, "cpu" or "cuda".
        journal: a file that keeps what is measured: the next call with it goes on from there.
        watcher: is told how far it is.

    Raises:
        InspectError: a model that cannot be read, or a choice that cannot be.
    """
    config = _config(tail, s1, s2, assign, weight_decay)
    settings = _Settings(tail, randomize, seed, _device(device))
    source = open_source(model)
    weights = find_weights(source, include, exclude)
    kept = None
    if journal is not None:
        if source.model is not None:
            raise InspectError("a journal is for files; a model in memory may change meanwhile")
        kept = Journal(Path(journal), source, asdict(settings))
    rows, unread = _measure(weights.measured, settings, kept, watcher or Watcher())
    broken = {row.name: _said(row) for row in rows if row.status in _BROKEN}
    good = [row for row in rows if row.name not in broken]
    return Analysis(
        source.place,
        source.form,
        tuple(_with_decays(good, config, weight_decay)),
        quality_of(good),
        {**weights.set_aside, **unread, **broken},
        weights.left_out,
        weights.warnings,
        {**asdict(settings), "weight_decay": weight_decay, "s1": s1, "s2": s2, "assign": assign},
    )


def _measure(
    weights: Sequence[Weight], settings: _Settings, journal: Journal | None, watcher: Watcher
) -> tuple[list[Row], dict[str, str]]:
    """Return the rows in the weights' order, and why those that cannot be read have none."""
    rows = {} if journal is None else _kept(weights, journal)
    left = [weight for weight in weights if weight.name not in rows]
    unread = {}
    watcher.begin(len(left), sum(module_cost(weight.shape) for weight in left))
    # of all weights, so that what was measured before a cut has the bits of what is after it
    sizes = {weight.name: _bytes(weight, settings) for weight in weights}
    workers = workers_for(settings.device, max(sizes.values(), default=0))
    measured = side_by_side(
        matrices(left),
        lambda one: _measured(*one, settings),
        lambda one: sizes[one[0].name],
        workers,
    )
    try:
        for weight, result in measured:
            if isinstance(result, BrokenTensor):
                unread[weight.name] = str(result)
            else:
                row, spectrum = result
                rows[weight.name] = row
                watcher.measured(weight.name, spectrum)
                if journal is not None:
                    journal.add(row)
            watcher.advance(module_cost(weight.shape))
    finally:
        measured.close()
        if journal is not None:
            journal.close()
    return [rows[weight.name] for weight in weights if weight.name in rows], unread


def _kept(weights: Sequence[Weight], journal: Journal) -> dict[str, Row]:
    """Return the rows that were measured before, with what is said of the weights now."""
    found = {}
    for weight in weights:
        row = journal.rows.get(weight.name)
        if row is not None and row.shape == weight.shape:
            found[weight.name] = replace(row, takes_part=weight.takes_part, note=weight.note)
    return found


def _measured(
    weight: Weight, weight_MN: Tensor | BrokenTensor, settings: _Settings
) -> tuple[Weight, tuple[Row, Spectrum] | BrokenTensor]:
    if isinstance(weight_MN, BrokenTensor):
        return weight, weight_MN
    return weight, _row(weight, weight_MN.to(settings.device), settings)


def _bytes(weight: Weight, settings: _Settings) -> int:
    """Return what a matrix and the work on it take: a copy to work on, and its Gram three times."""
    stored = weight.tensor.dtype or torch.float32
    working = precision_of(settings.tail).itemsize
    gram = 3 * working * min(weight.shape) ** 2
    return math.prod(weight.shape) * (stored.itemsize + working) + gram


def _row(weight: Weight, weight_MN: Tensor, settings: _Settings) -> tuple[Row, Spectrum]:
    spectrum = take_spectrum(weight_MN, settings.tail)
    fit = spectrum.estimate
    scores = spectrum.scores
    shuffled = None
    if settings.randomize:
        shuffled = compare_shuffled(weight_MN, spectrum.eigenvalues, weight.name, settings.seed)
    norm = scores["spectral_norm"]
    row = Row(
        name=weight.name,
        layer=weight.layer,
        type=weight.type,
        shape=weight.shape,
        parameters=math.prod(weight.shape),
        alpha=fit.alpha,
        ks_distance=fit.ks_distance,
        tail_count=fit.tail_count,
        eigenvalue_count=min(weight.shape),
        x_min=fit.x_min,
        stable_rank=scores["stable_rank"],
        # of this tail, as the score of that name is of the hill tail
        alpha_hat=fit.alpha * 2 * math.log10(norm) if norm > 0 else math.nan,
        spectral_norm=norm,
        frobenius_norm=scores["frobenius_norm"],
        entropy=scores["entropy"],
        status=fit.status.label,
        takes_part=weight.takes_part,
        beyond_shuffled=None if shuffled is None else shuffled.beyond,
        traps=None if shuffled is None else shuffled.traps,
        note=weight.note,
    )
    return row, spectrum


def _with_decays(
    rows: Iterable[Row], config: AlphaDecayConfig, weight_decay: float
) -> Iterable[Row]:
    """Yield the rows with their ratios and decays: those that do not take part have the base."""
    rows = list(rows)
    taking = [row for row in rows if row.takes_part]
    sizes = {row.name: row.parameters for row in taking}
    ratios: Mapping[str, float] = ratios_of({row.name: row.alpha for row in taking}, sizes, config)
    for row in rows:
        ratio = ratios.get(row.name, 1.0)
        yield replace(row, ratio=ratio, decay=ratio * weight_decay)


def _said(row: Row) -> str:
    return f"it is {row.status}: {Status[row.status.upper()].advice}"


def _config(
    tail: Tail, s1: float, s2: float, assign: Assign, weight_decay: float
) -> AlphaDecayConfig:
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise InspectError(f"weight_decay is {weight_decay}, must be at least 0")
    if assign not in get_args(Assign):
        raise InspectError(f"assign is {assign!r}, must be one of {', '.join(get_args(Assign))}")
    try:
        return AlphaDecayConfig(tail=tail, s1=s1, s2=s2, assign=assign)
    except ValueError as error:
        raise InspectError(str(error)) from error


def _device(name: str) -> str:
    """Return a device's name that torch has here.

    Raises:
        InspectError: it has none such.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InspectError(f"device {name!r} cannot be used here: {error}") from error
    return name
