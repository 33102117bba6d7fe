"""Traces of polynomials and sums over spectra against the eigenvalues themselves."""

from __future__ import annotations

import pytest
import torch

from alphadecay.spectral import chebyshev
from alphadecay.spectral.chebyshev import coefficients, grid, moments, point_above_which
from tests.unit.alphadecay.spectral.matrices import gaussian
from tests.unit.alphadecay.spectral.rounding import following_in_tf32

SIDE = 150


def stack() -> torch.Tensor:
    """Symmetric matrices with eigenvalues in [−1, 1]."""
    squares = torch.stack([gaussian(SIDE, SIDE, seed) for seed in range(2)])
    sums = squares + squares.mT
    return sums / (1.01 * torch.linalg.matrix_norm(sums, 2)[:, None, None])


def exact(matrices: torch.Tensor, count: int) -> torch.Tensor:
    angles = torch.linalg.eigvalsh(matrices).acos()
    return torch.cos(torch.arange(count)[:, None] * angles[:, None, :]).sum(-1)


@pytest.mark.parametrize(("step", "leaps"), [(1, 1), (2, 3), (5, 4), (8, 16)])
def test_moments_are_traces_of_polynomials(step: int, leaps: int) -> None:
    found = moments(stack().float(), step, leaps)
    assert found.shape == (2, step * (leaps + 1) + 1)
    # float32 products; a moment is a sum of 150 numbers in [−1, 1]
    assert torch.allclose(found, exact(stack(), found.shape[1]), atol=2e-3)


def test_they_take_few_products(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    real = chebyshev.following
    monkeypatch.setattr(chebyshev, "following", lambda *parts: taken.append(1) or real(*parts))
    assert moments(stack().float(), 8, 16).shape[1] == 137
    assert len(taken) == 22


def test_in_tf32_they_are_coarser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off by 0.01 to 0.5, of moments that are sums of 150 numbers in [−1, 1]."""
    monkeypatch.setattr(chebyshev, "following", following_in_tf32)
    found = moments(stack().float(), 8, 16)
    assert 0.01 < (found - exact(stack(), 137)).abs().max() < 0.5


def test_coefficients_of_what_is_known() -> None:
    at = torch.cos(grid(torch.device("cpu")))
    polynomial = 3 + 0.5 * at - 2 * (4 * at**3 - 3 * at)
    absolute = at.abs()
    found = coefficients(torch.stack([polynomial, absolute]), 6)
    assert torch.allclose(found[0], torch.tensor([3, 0.5, 0, -2, 0, 0]).double(), atol=1e-12)
    # |x| = 2/π + 4/π·Σ (−1)^(k+1)·T_2k/(4k² − 1): a kink costs the quadrature 1e-7
    known = torch.tensor([2, 0, 4 / 3, 0, -4 / 15, 0]).double() / torch.pi
    assert torch.allclose(found[1], known, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 30, 75, 140])
def test_the_point_above_which_a_rank_lies(rank: int) -> None:
    values = torch.linalg.eigvalsh(stack())
    point = point_above_which(exact(stack(), 137), rank)
    above = (values > point[:, None]).sum(-1)
    assert ((above - (rank - 0.5)).abs() <= 2).all()
