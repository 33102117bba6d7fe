"""Bursts and spread refreshes: what is measured when, in which precision, beside the training."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from alphadecay import AdamW, AlphaDecay, refresh
from alphadecay.refresh import SpectralRefresh
from alphadecay.spectral import Estimate, Status, estimate, pl_alpha_hill
from alphadecay.spectral.solving import SOLVERS, Way
from tests.unit.alphadecay.spectral.matrices import power_law

INTERVAL = 4
SPREAD = 2


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(512, 1376), nn.Tanh(), nn.Linear(1376, 512), nn.Linear(512, 512))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="the side stream is CUDA's")
def test_the_side_stream_gives_the_decays_of_a_burst() -> None:
    """The weights move and memory is allocated anew while the Grams are solved; a burst looks at a
    copy of what was measured.
    """
    model = net().cuda()
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=INTERVAL, spread=SPREAD)
    first = decay.alphas
    for step in range(1, INTERVAL + SPREAD):
        inputs = torch.randn(4096, 512, generator=torch.Generator().manual_seed(step)).cuda()
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        refreshed = decay.step()
        if step == INTERVAL - 1:
            measured = copy.deepcopy(model)
            assert decay.solving
        assert refreshed == (step == INTERVAL + SPREAD - 1)
    burst = AlphaDecay(measured, AdamW(measured.parameters(), weight_decay=0.1))
    assert decay.last_refresh_step == INTERVAL + SPREAD
    assert decay.alphas != first
    assert decay.alphas == pytest.approx(burst.alphas, rel=1e-3)
    assert decay.weight_decays == pytest.approx(burst.weight_decays, rel=1e-2)


def refresh_of(model: nn.Module, **choices: object) -> SpectralRefresh:
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1), **choices)
    return decay._spectra


def small() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 32), nn.Linear(32, 48))


@pytest.mark.parametrize(
    ("tail", "precision"), [("hill", torch.float32), ("goodness_of_fit", torch.float64)]
)
def test_spread_grams_are_float32_unless_a_search_asks_for_more(
    tail: str, precision: torch.dtype
) -> None:
    pending = refresh_of(small(), spread=2, tail=tail).take()
    assert {gram.matrix_KK.dtype for gram in pending._grams.values()} == {precision}


def test_a_spread_refresh_measures_again_what_float32_does_not_resolve() -> None:
    """Its decays are set from the weights of that step, as a burst's would be."""
    model = small()
    with torch.no_grad():
        model[1].weight.copy_(power_law(32, 40, 1.2))
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=4, spread=2)
    for step in range(5):
        model(torch.randn(7, 24, generator=torch.Generator().manual_seed(step))).sum().backward()
        optimizer.step()
        decay.step()
    assert decay.last_refresh_step == 6
    expected = pl_alpha_hill(model[1].weight)
    assert decay.alphas["1.weight"] == pytest.approx(expected, rel=1e-9)
    assert not any(estimate.escalate for estimate in decay._estimates.values())


def test_a_module_without_a_solution_keeps_the_base_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.linalg.eigvalsh

    def solver(matrix: torch.Tensor, **choices: str) -> torch.Tensor:
        if matrix.shape[-1] == 24:
            raise torch.linalg.LinAlgError("failed to converge")
        return real(matrix, **choices)

    monkeypatch.setattr(torch.linalg, "eigvalsh", solver)
    model = small()
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
    assert decay.statuses == {"0.weight": "not_converged"}
    assert decay.weight_decays["0.weight"] == 0.1
    others = sorted(decay.weight_decays[name] for name in ("1.weight", "2.weight"))
    assert others == pytest.approx([0.067, 0.5])


def test_an_estimate_says_whether_it_wants_float64() -> None:
    estimates = refresh_of(small()).measure()
    assert all(isinstance(estimate, Estimate) for estimate in estimates.values())
    assert not any(estimate.escalate for estimate in estimates.values())


def on_a_gpu(monkeypatch: pytest.MonkeyPatch, way: Way) -> list[tuple[int, int]]:
    """Have refreshes believe that weights lie on a GPU that was measured; the shapes asked for."""
    asked: list[tuple[int, int]] = []

    def known_ways(shapes: object, device: torch.device) -> dict[tuple[int, int], Way]:
        asked.extend(shapes)  # type: ignore[arg-type]
        return dict.fromkeys(asked, way)

    gpu = torch.device("cuda")
    monkeypatch.setattr(SpectralRefresh, "_device", lambda self: gpu)
    monkeypatch.setattr(refresh, "known_ways", known_ways)
    return asked


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_a_measured_device_is_used_as_it_is_fastest(
    solver: str, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every α is the one of its own matrix in the precision of its way, bit for bit."""
    asked = on_a_gpu(monkeypatch, Way(precision, solver))
    model = small()
    spectra = refresh_of(model)
    assert sorted(asked) == [(40, 24), (48, 32)]  # the largest of each side
    estimates = spectra.measure()
    assert len(asked) == 2
    for name, found in estimates.items():
        weight = model.get_parameter(name)
        assert found.alpha == float(estimate(weight, precision=precision).alpha)


def test_float64_needs_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_gpu(monkeypatch, Way(torch.float64, "threads"))
    model = small()
    with torch.no_grad():
        model[1].weight.copy_(power_law(32, 40, 1.2))
    spectra = refresh_of(model)
    planned: list[list[str]] = []
    plan = spectra._plan
    monkeypatch.setattr(spectra, "_plan", lambda names: planned.append(names) or plan(names))
    alphas = {name: found.alpha for name, found in spectra.measure().items()}
    assert planned == []
    assert alphas["1.weight"] == pytest.approx(pl_alpha_hill(model[1].weight), rel=1e-9)


@pytest.mark.parametrize("choice", [{"method": "svd"}, {"tail": "fix_finger"}, {}])
def test_nothing_is_measured_that_no_refresh_asks_for(
    choice: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU nothing at all; with one, only the default's Grams."""
    if choice:
        asked = on_a_gpu(monkeypatch, Way())
    else:
        asked = []
        monkeypatch.setattr(refresh, "known_ways", lambda *args: asked.append(args))
    refresh_of(small(), **choice)
    assert asked == []


def test_vectors_have_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = on_a_gpu(monkeypatch, Way())
    vectors = nn.Sequential(nn.Linear(1, 40), nn.Linear(40, 1))
    estimates = refresh_of(vectors).measure()
    assert {estimate.status for estimate in estimates.values()} == {Status.TOO_SMALL}
    assert asked == []


def test_moments_measure_a_model_within_a_thousandth() -> None:
    """Those of one side together, a small one by its eigenvalues, a broken one with its status."""
    torch.manual_seed(5)
    shapes = ((144, 200), (200, 144), (144, 144), (24, 40), (144, 150))
    model = nn.ModuleList(nn.Linear(inputs, outputs) for outputs, inputs in shapes)
    with torch.no_grad():
        model[4].weight.fill_(torch.nan)
    estimates = refresh_of(model, method="moments").measure()
    exact = refresh_of(model).measure()
    assert estimates["4.weight"].status is Status.NOT_FINITE
    assert estimates["3.weight"].alpha == pytest.approx(exact["3.weight"].alpha, rel=1e-5)
    for name in ("0.weight", "1.weight", "2.weight"):
        assert estimates[name].alpha == pytest.approx(exact[name].alpha, abs=1e-3)
        assert estimates[name].x_min == pytest.approx(exact[name].x_min, rel=1e-4)
        assert estimates[name].alpha != exact[name].alpha
