"""Cut-off searches against a plain loop, and against powerlaw and weightwatcher where their
definitions coincide.
"""

from __future__ import annotations

import io
import math
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
import torch

from alphadecay.spectral import FIELDS, Status, estimate, to_estimate
from alphadecay.spectral.tail_search import peak, search


def loop(
    values: np.ndarray, lowest: float = 0.0, highest: float = math.inf
) -> tuple[int, float, float]:
    """Index, α and KS distance by trying every cut-off in turn."""
    best = (math.inf, -1, math.nan)
    for index, x_min in enumerate(values[:-1]):
        if lowest <= x_min <= highest:
            tail = values[index:]
            alpha = 1 + len(tail) / np.log(tail / x_min).sum()
            distance = np.abs(
                1 - (tail / x_min) ** (1 - alpha) - np.arange(len(tail)) / len(tail)
            ).max()
            best = min(best, (distance, index, alpha))
    return best[1], best[2], best[0]


def spectra() -> dict[str, np.ndarray]:
    source = np.random.default_rng(3)
    found = {
        f"pareto {size} {shape}": source.pareto(shape, size) + 1
        for size in (20, 64, 513)
        for shape in (0.8, 2.0, 5.0)
    }
    for rows, columns in ((64, 64), (128, 300), (400, 400)):
        found[f"gaussian {rows} {columns}"] = (
            np.linalg.svd(source.standard_normal((rows, columns)), compute_uv=False) ** 2
        )
    found["lognormal"] = np.exp(source.standard_normal(300) * 3)
    found["two scales"] = np.concatenate(
        [source.uniform(0.5, 1, 200), 40 * (source.pareto(1.5, 100) + 1)]
    )
    return {name: np.sort(values) for name, values in found.items()}


SPECTRA = spectra()


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", SPECTRA)
def test_goodness_of_fit_is_the_loop(name: str, published: bool) -> None:
    values = SPECTRA[name]
    alpha, x_min, count, distance = search(
        torch.from_numpy(values), finger=False, published=published
    )
    index, expected, least = loop(values)
    assert (x_min, count) == (values[index], len(values) - index)
    assert (alpha, distance) == pytest.approx((expected, least), rel=1e-9)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", SPECTRA)
def test_fix_finger_is_the_loop_in_its_window(name: str, published: bool) -> None:
    values = SPECTRA[name]
    counts, edges = np.histogram(np.log10(values), bins=100)
    top = 10 ** edges[counts.argmax()]
    assert peak(torch.from_numpy(values)) == pytest.approx(top, rel=1e-9)
    index, expected, least = loop(
        values, math.log10(0.95 * top) if published else 0.95 * top, 1.5 * top
    )
    alpha, x_min, count, distance = search(
        torch.from_numpy(values), finger=True, published=published
    )
    assert (x_min, count) == (values[index], len(values) - index)
    assert (alpha, distance) == pytest.approx((expected, least), rel=1e-9)


def test_the_published_window_is_another() -> None:
    values = torch.from_numpy(SPECTRA["lognormal"])
    assert search(values, finger=True, published=True) != search(
        values, finger=True, published=False
    )


@pytest.mark.parametrize("name", SPECTRA)
def test_agrees_with_weightwatchers_own_fit(name: str) -> None:
    fitting = pytest.importorskip("weightwatcher.WW_powerlaw")
    fit = fitting.WWFit(SPECTRA[name])
    if fit.N <= 20:
        pytest.skip("weightwatcher corrects small spectra for bias, another definition")
    alpha, x_min, _, distance = search(
        torch.from_numpy(SPECTRA[name]), finger=False, published=False
    )
    assert (alpha, x_min, distance) == pytest.approx((fit.alpha, fit.xmin, fit.D), rel=1e-9)


@pytest.mark.parametrize("name", ["pareto 64 2.0", "gaussian 64 64", "two scales"])
def test_agrees_with_powerlaw(name: str) -> None:
    powerlaw = pytest.importorskip("powerlaw")
    alpha, x_min, _, distance = search(
        torch.from_numpy(SPECTRA[name]), finger=False, published=False
    )
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        fit = powerlaw.Fit(
            SPECTRA[name], xmin=x_min, verbose=False, parameter_ranges={"alpha": [1, 30]}
        )
    assert fit.power_law.alpha == pytest.approx(alpha, rel=1e-6)
    assert float(fit.power_law.D) == pytest.approx(distance, rel=1e-5)


@pytest.mark.parametrize("tail", ["goodness_of_fit", "fix_finger"])
def test_estimate_searches_the_float64_spectrum(tail: str) -> None:
    weight = torch.randn(90, 120, generator=torch.Generator().manual_seed(1))
    values = np.sort(np.linalg.svd(weight.double().numpy(), compute_uv=False) ** 2)
    top = peak(torch.from_numpy(values))
    window = (0.95 * top, 1.5 * top) if tail == "fix_finger" else (0.0, math.inf)
    index, alpha, distance = loop(values, *window)
    for method in ("gram", "svd"):
        row = to_estimate(
            estimate(weight, tail=tail, method=method, precision=torch.float64).pack().tolist()
        )
        assert (row.alpha, row.x_min, row.ks_distance) == pytest.approx(
            (alpha, values[index], distance), rel=1e-6
        )
        assert (row.tail_count, row.status) == (len(values) - index, Status.OK)
    assert estimate(weight, tail=tail)[FIELDS.index("escalate")] == 0


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("finger", [False, True])
def test_spectra_without_a_tail(finger: bool, published: bool) -> None:
    flat = search(torch.ones(60, dtype=torch.float64), finger=finger, published=published)
    assert math.isnan(flat[0])
    zeros = torch.cat([torch.zeros(55), torch.arange(1.0, 6.0)]).double()
    alpha, x_min, _, _ = search(zeros, finger=finger, published=published)
    assert x_min < 1e-12 * 5 or math.isfinite(alpha)


@pytest.mark.parametrize("tail", ["goodness_of_fit", "fix_finger"])
@pytest.mark.parametrize("published", [False, True])
def test_broken_weights_get_a_status(tail: str, published: bool) -> None:
    for weight, status in (
        (torch.full((64, 64), math.nan), Status.NOT_FINITE),
        (torch.zeros(64, 64), Status.ZERO),
        (torch.eye(64), Status.DEGENERATE),
    ):
        result = to_estimate(estimate(weight, tail=tail, published=published).pack().tolist())
        assert result.status is status and math.isnan(result.alpha)
