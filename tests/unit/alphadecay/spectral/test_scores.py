"""Scores and FARMS against numpy, and against weightwatcher where its definitions coincide."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from alphadecay.spectral import (
    SCORES,
    Status,
    estimate,
    gradient_norm,
    scores,
    to_estimate,
)
from alphadecay.spectral.farms import esd_by_farms, window_shape, windows
from alphadecay.spectral.hill import hill

WEIGHT = torch.randn(60, 90, generator=torch.Generator().manual_seed(2)) * torch.linspace(
    0.1, 3, 90
)
SINGULAR = np.linalg.svd(WEIGHT.double().numpy(), compute_uv=False)


def table(weight: torch.Tensor, published: bool = False) -> dict[str, float]:
    return dict(zip(SCORES, scores(weight, published=published).tolist(), strict=True))


def test_by_hand() -> None:
    values = np.sort(SINGULAR**2)
    shares = values / values.sum()
    alpha = 1 + 30 / np.log(values[30:] / values[29]).sum()
    expected = {
        "spectral_norm": SINGULAR.max(),
        "frobenius_norm": WEIGHT.double().norm().item(),
        "stable_rank": values.sum() / values.max(),
        "entropy": -(shares * np.log(shares)).sum() / math.log(60),
        "alpha_hat": alpha * math.log10(values.max()),
    }
    assert table(WEIGHT) == pytest.approx(expected, rel=1e-6)


def test_published_by_hand() -> None:
    values = np.sort(SINGULAR**2)
    shares = values / values.sum() + 6e-5
    alpha = 1 + 30 / np.log(values[30:] / values[30]).sum()
    expected = {
        "spectral_norm": values.max(),
        "frobenius_norm": values.sum(),
        "stable_rank": values.sum() / values.max(),
        "entropy": -(shares * np.log(shares)).sum() / math.log(60),
        "alpha_hat": math.log1p(math.exp(alpha * math.log10(values.max()))),
    }
    assert table(WEIGHT, published=True) == pytest.approx(expected, rel=1e-6)


def test_agrees_with_weightwatcher() -> None:
    theirs = pytest.importorskip("weightwatcher.RMT_Util")
    ours = table(WEIGHT)
    assert ours["stable_rank"] == pytest.approx(theirs.stable_rank(SINGULAR**2), rel=1e-9)
    # it shifts every share by 6e-5 where it works in half precision, by next to nothing elsewhere
    published = theirs.EPSILON > 1e-5
    assert table(WEIGHT, published)["entropy"] == pytest.approx(
        theirs.matrix_entropy(SINGULAR, 90), rel=1e-6
    )


def test_entropy_at_its_ends() -> None:
    assert table(torch.eye(32))["entropy"] == pytest.approx(1.0)
    one = torch.zeros(32, 32)
    one[3, 4] = 5.0
    assert table(one)["entropy"] == pytest.approx(0.0, abs=1e-12)
    assert table(one)["stable_rank"] == pytest.approx(1.0)


def test_broken_weights() -> None:
    assert all(math.isnan(value) for value in table(torch.full((9, 9), math.nan)).values())
    zero = table(torch.zeros(9, 9))
    assert zero["frobenius_norm"] == 0.0 and zero["spectral_norm"] == 0.0
    assert math.isnan(zero["stable_rank"]) and math.isnan(zero["entropy"])


def test_stack_and_scale() -> None:
    stack = torch.stack([WEIGHT, WEIGHT * 1e-15])
    assert torch.allclose(scores(stack)[0], scores(WEIGHT), rtol=1e-12)
    assert scores(stack)[1, 0].item() == pytest.approx(SINGULAR.max() * 1e-15, rel=1e-6)


def test_gradient_norm() -> None:
    gradient = torch.randn(1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert gradient_norm(gradient).item() == pytest.approx(
        gradient.double().norm().item(), rel=1e-6
    )
    assert gradient_norm(torch.zeros(0)).item() == 0.0


def pooled_alpha(weight: torch.Tensor, height: int, width: int) -> float:
    pool = []
    for top in range(0, weight.shape[0] - height + 1, height):
        for left in range(0, weight.shape[1] - width + 1, width):
            window = weight[top : top + height, left : left + width].double().numpy()
            pool.extend(np.linalg.svd(window, compute_uv=False) ** 2)
    values = np.sort(pool)
    half = len(values) // 2
    return 1 + half / np.log(values[len(values) - half :] / values[len(values) - half - 1]).sum()


@pytest.mark.parametrize("shape", [(64, 64), (64, 172), (172, 64), (61, 99)])
def test_farms_is_the_pooled_fit(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    side = min(shape) // 2
    row = to_estimate(estimate(weight, method="farms", precision=torch.float64).pack().tolist())
    assert row.alpha == pytest.approx(pooled_alpha(weight, side, side), rel=1e-6)
    tall, wide = (side, 2 * side) if shape[0] <= shape[1] else (2 * side, side)
    pooled = hill(esd_by_farms(weight, torch.float64, aspect=2.0).eigenvalues_K)
    assert pooled.alpha.item() == pytest.approx(pooled_alpha(weight, tall, wide), rel=1e-6)


def test_farms_does_not_see_the_aspect_ratio() -> None:
    shapes = ((256, 256), (128, 512))
    gaussians = [torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in shapes]
    plain = [estimate(weight)[0].item() for weight in gaussians]
    pooled = [estimate(weight, method="farms").alpha.item() for weight in gaussians]
    assert plain[1] - plain[0] > 1.0
    assert abs(pooled[1] - pooled[0]) < 0.06


def test_farms_on_broken_weights() -> None:
    broken = WEIGHT.clone()
    broken[0, 0] = math.nan
    corner = torch.zeros(60, 90)
    corner[:30, :30] = WEIGHT[:30, :30]
    cases = {
        Status.NOT_FINITE: broken,
        Status.ZERO: torch.zeros(60, 90),
        Status.TOO_SMALL: torch.randn(12, 90),
        Status.RANK_DEFICIENT: corner,
    }
    for status, weight in cases.items():
        assert (
            to_estimate(
                estimate(weight, method="farms", precision=torch.float64).pack().tolist()
            ).status
            is status
        )
    assert windows(WEIGHT, 30, 30).shape == (6, 30, 30)


def test_farms_wrong_arguments() -> None:
    for arguments in ({"aspect": 0.5}, {"fraction": 0.0}, {"fraction": 1.5}, {"aspect": 4.0}):
        with pytest.raises(ValueError, match="aspect"):
            esd_by_farms(WEIGHT, torch.float64, **arguments)
    with pytest.raises(ValueError, match="one by one"):
        estimate(WEIGHT[None], method="farms")
    assert window_shape(60, 90) == (30, 30)
