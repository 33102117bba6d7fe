"""Estimates against a float64 singular value decomposition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from alphadecay.spectral import FIELDS, Status, estimate, estimate_from_gram, pl_alpha_hill, take_gram, to_estimate


def oracle(weight: torch.Tensor, published: bool = False) -> float:
    """The formula, in numpy, float64."""
    values = np.sort(np.linalg.svd(weight.detach().double().numpy(), compute_uv=False) ** 2)
    count = len(values)
    if published:
        tail = values[count // 2 :]
        return 1 + len(tail) / np.log(tail / tail[0]).sum()
    half = count // 2
    return 1 + half / np.log(values[count - half :] / values[count - half - 1]).sum()


def power_law(rows: int, columns: int, exponent: float, seed: int = 0) -> torch.Tensor:
    """A matrix whose eigenvalues are quantiles of a power law of that exponent."""
    generator = torch.Generator().manual_seed(seed)
    size = min(rows, columns)
    left, _ = torch.linalg.qr(torch.randn(rows, size, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(columns, size, generator=generator, dtype=torch.float64))
    quantile = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    eigenvalues = (1 - quantile) ** (-1 / (exponent - 1))
    return (left * eigenvalues.sqrt()) @ right.mT


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spiked(rows: int, columns: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    left, right = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((rows, 3), (3, columns)))
    return gaussian(rows, columns, 4) + 10 * left @ right


CASES = {
    "gaussian": gaussian(96, 96),
    "wide": gaussian(64, 173),
    "tall": gaussian(173, 64),
    "odd": gaussian(61, 77),
    "spiked": spiked(96, 128),
    **{f"power {exponent}": power_law(96, 128, exponent) for exponent in (1.5, 2.0, 3.0, 6.0)},
}


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_float64_svd(name: str, published: bool) -> None:
    weight = CASES[name].float()
    row = estimate(weight, published=published)
    if row[FIELDS.index("escalate")]:
        row = estimate(weight, published=published, precision=torch.float64)
    assert row[0].item() == pytest.approx(oracle(weight, published), rel=1e-4)
    assert estimate(weight, published=published, precision=torch.float64)[0].item() == pytest.approx(oracle(weight, published), rel=1e-6)
    assert to_estimate(row.tolist()).status is Status.OK


def test_published_index_differs_from_the_papers() -> None:
    weight = CASES["gaussian"].float()
    assert estimate(weight)[0] < estimate(weight, published=True)[0] - 1e-4


def test_gram_then_solve_is_the_same() -> None:
    weight = CASES["wide"].float()
    assert torch.equal(estimate(weight), estimate_from_gram(take_gram(weight, torch.float32)))


BROKEN = {
    "nan": (torch.full((16, 16), math.nan), Status.NOT_FINITE),
    "one inf": (torch.eye(16).index_put((torch.tensor(3), torch.tensor(2)), torch.tensor(math.inf)), Status.NOT_FINITE),
    "zero": (torch.zeros(16, 20), Status.ZERO),
    "identity": (torch.eye(16), Status.DEGENERATE),
    "low rank": (gaussian(32, 2) @ gaussian(2, 32), Status.RANK_DEFICIENT),
    "small": (torch.randn(7, 100), Status.TOO_SMALL),
    "empty": (torch.zeros(0, 100), Status.TOO_SMALL),
}


@pytest.mark.parametrize("method", ["gram", "svd"])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_inputs_get_a_status(name: str, method: str) -> None:
    weight, status = BROKEN[name]
    result = to_estimate(estimate(weight, method=method, precision=torch.float64).tolist())
    assert result.status is status and math.isnan(result.alpha)
    with pytest.raises(ValueError, match=status.label):
        pl_alpha_hill(weight)


@pytest.mark.parametrize("scale", [1e20, 1e-24, 1e-40, 3e37])
def test_extreme_scales(scale: float) -> None:
    weight = gaussian(40, 60).clamp(-3, 3)
    scaled = (weight * scale).float()
    assert pl_alpha_hill(scaled) == pytest.approx(oracle(scaled), rel=1e-4)
    x_min = np.sort(np.linalg.svd(scaled.double().numpy(), compute_uv=False) ** 2)[19]
    assert to_estimate(estimate(scaled).tolist()).x_min == pytest.approx(x_min, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtypes_are_accumulated_in_float32(dtype: torch.dtype) -> None:
    weight = gaussian(64, 172).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert pl_alpha_hill(weight) == pytest.approx(oracle(weight), rel=1e-4)


def test_escalation_is_asked_for_and_ends() -> None:
    weight = power_law(96, 96, 1.2)
    assert estimate(weight)[FIELDS.index("escalate")] == 1
    assert estimate(weight, precision=torch.float64)[FIELDS.index("escalate")] == 0
    assert pl_alpha_hill(weight) == pytest.approx(oracle(weight), rel=1e-6)


def test_wrong_arguments_are_named() -> None:
    weight = torch.randn(16, 16)
    with pytest.raises(ValueError, match="pl_alpha_hill takes one"):
        pl_alpha_hill(weight[None])
    with pytest.raises(ValueError, match="median"):
        estimate(weight, tail="median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="qr"):
        estimate(weight, method="qr")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float16"):
        estimate(weight, precision=torch.float16)
    with pytest.raises(ValueError, match="fields"):
        to_estimate([1.0])
