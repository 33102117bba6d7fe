"""AWD and AdaDecay, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from alphadecay.baselines.rules import adadecay_modules, adadecay_parameters, awd


def test_awd_by_hand() -> None:
    first = awd(1e-3, gradient_norm=0.5, weight_norm=20.0)
    assert first == pytest.approx(100 * 1e-3 * 0.5 / 20)
    assert awd(1e-3, 1.0, 20.0, first) == pytest.approx(0.1 * first + 0.9 * 100 * 1e-3 / 20)
    assert awd(1e-3, 1.0, 20.0, scale=50.0) == pytest.approx(50 * 1e-3 / 20)


@pytest.mark.parametrize(
    ("gradient", "weight"),
    [(math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0), (1.0, math.nan), (1e300, 1e-300)],
)
def test_awd_survives_an_overflowed_step(gradient: float, weight: float) -> None:
    assert awd(0.1, gradient, weight) == 0.1
    assert awd(0.1, gradient, weight, 0.03) == 0.03
    with pytest.raises(ValueError, match="need"):
        awd(-0.1, 1.0, 1.0)


def test_adadecay_standardises_within_each_layer() -> None:
    norms = {"0.q": 1.0, "0.k": 3.0, "1.q": 100.0, "1.k": 100.0, "2.q": math.nan, "2.k": 5.0}
    decays = adadecay_modules(norms, {name: name[0] for name in norms}, 0.1)
    assert decays["0.q"] == pytest.approx(0.2 / (1 + math.exp(4)))
    assert decays["0.k"] == pytest.approx(0.2 / (1 + math.exp(-4)))
    assert [decays[name] for name in ("1.q", "1.k", "2.q", "2.k")] == [0.1] * 4
    with pytest.raises(ValueError, match=r"0\.q"):
        adadecay_modules(norms, {}, 0.1)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_adadecay_per_parameter(scale: float) -> None:
    gradient = torch.tensor([[1.0, -2.0], [3.0, -6.0]], dtype=torch.float64)
    magnitude = gradient.abs()
    z = (magnitude - magnitude.mean()) / magnitude.std(correction=0)
    expected = 0.1 * 2 / (1 + torch.exp(-4 * z))
    assert torch.allclose(adadecay_parameters(gradient * scale, 0.1), expected, rtol=1e-9)
    assert torch.allclose(
        adadecay_parameters((gradient * scale).float(), 0.1).double(), expected, rtol=1e-4
    )


@pytest.mark.parametrize(
    "gradient",
    [
        torch.zeros(5),
        torch.full((5,), 3.0),
        torch.tensor([1.0, math.nan]),
        torch.tensor([1.0, math.inf]),
    ],
)
def test_adadecay_without_information_is_the_base(gradient: torch.Tensor) -> None:
    assert torch.equal(adadecay_parameters(gradient, 0.1), torch.full_like(gradient, 0.1))
