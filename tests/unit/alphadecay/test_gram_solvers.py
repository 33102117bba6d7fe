"""In which precision Grams are taken, how many wait for each other, and what solves them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from alphadecay.config import AlphaDecayConfig
from alphadecay.gram_solvers import ByEigenvalues, WithoutSpectrum
from alphadecay.spectral import EstimateRow, Gram, estimate_from_gram, take_gram
from alphadecay.spectral.solving import TOGETHER, Way, in_parts
from tests.unit.alphadecay.spectral.matrices import gaussian, oracle

SINGLE, DOUBLE = torch.float32, torch.float64
WAYS = {32: Way(DOUBLE, "threads"), 40: Way(SINGLE, "stacked")}
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("side", "least", "precision", "together"),
    [
        (32, SINGLE, DOUBLE, TOGETHER),
        (32, DOUBLE, DOUBLE, TOGETHER),
        (40, SINGLE, SINGLE, TOGETHER),
        (40, DOUBLE, DOUBLE, TOGETHER),
        (48, SINGLE, SINGLE, 1),  # a side that was not measured
        (48, DOUBLE, DOUBLE, 1),
    ],
)
def test_a_side_goes_its_way(
    side: int, least: torch.dtype, precision: torch.dtype, together: int
) -> None:
    solver = ByEigenvalues(AlphaDecayConfig(), WAYS)
    assert solver.precision(side, least) is precision
    assert solver.together(side) == together


def test_a_search_is_in_float64() -> None:
    solver = ByEigenvalues(AlphaDecayConfig(tail="goodness_of_fit"), {})
    assert solver.precision(40, SINGLE) is DOUBLE


@pytest.mark.parametrize("side", [32, 40, 48])
def test_every_way_solves(side: int) -> None:
    solver = ByEigenvalues(AlphaDecayConfig(compat="published"), WAYS)
    weights = [gaussian(side + 32, side + 40, seed) for seed in range(3)]
    grams = [take_gram(weight, DOUBLE) for weight in weights]
    for row, gram in zip(solver.rows(grams), grams, strict=True):
        assert torch.equal(row.pack(), estimate_from_gram(gram, published=True).pack())


@pytest.mark.parametrize("published", [False, True])
def test_without_a_spectrum(published: bool) -> None:
    config = AlphaDecayConfig(method="moments", compat="published" if published else None)
    solver = WithoutSpectrum(config, CPU)
    assert solver.precision(160, SINGLE) is DOUBLE and solver.together(160) > 8
    weights = [gaussian(160, 200, seed) for seed in range(3)]
    rows = solver.rows([take_gram(weight, DOUBLE) for weight in weights])
    for row, weight in zip(rows, weights, strict=True):
        assert float(row.alpha) == pytest.approx(oracle(weight, published), abs=1e-3)


def test_what_does_not_fit_is_done_in_parts() -> None:
    """A device that holds two at once, and then one that holds none."""
    asked: list[int] = []

    def rows_of(grams: Sequence[Gram]) -> list[EstimateRow]:
        asked.append(len(grams))
        if len(grams) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return [estimate_from_gram(gram) for gram in grams]

    grams = [take_gram(gaussian(12, 20, seed), DOUBLE) for seed in range(7)]
    rows = in_parts(rows_of, grams)
    assert asked == [7, 3, 1, 2, 4, 2, 2]
    for row, gram in zip(rows, grams, strict=True):
        assert torch.equal(row.pack(), estimate_from_gram(gram).pack())

    def nothing(grams: Sequence[Gram]) -> list[EstimateRow]:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        in_parts(nothing, grams)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"tail": "fix_finger"}, 'method "moments" fits tail "hill" alone'),
        ({"spread": 3}, "needs method \"gram\", got 'moments'"),
        ({"score": "spectral_norm"}, "leave method"),
    ],
)
def test_what_moments_cannot_do_is_said(choice: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AlphaDecayConfig(method="moments", **choice)
