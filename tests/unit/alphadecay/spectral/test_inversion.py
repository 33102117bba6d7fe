"""Inverses and pivots against torch's own and against eigenvalues."""

from __future__ import annotations

import pytest
import torch

from alphadecay.spectral.inversion import LEAF, invert, unpivoted_lu
from tests.unit.alphadecay.spectral.matrices import gaussian, spiked

SIDES = [1, 2, LEAF, LEAF + 1, 3 * LEAF + 5]


def symmetric(side: int, seed: int) -> torch.Tensor:
    half = gaussian(side, side, seed)
    return half + half.mT


@pytest.mark.parametrize("side", SIDES)
def test_a_positive_matrix(side: int) -> None:
    """Its pivots make the determinant, and the inverse is good to the condition times 1e-14."""
    weights = torch.stack([spiked(side, side + 9), gaussian(side, side + 9, 1)])
    stack = weights @ weights.mT / side + torch.eye(side)
    inverse, pivots = invert(stack)
    assert torch.allclose(inverse @ stack, torch.eye(side).double().expand_as(stack), atol=1e-9)
    assert torch.equal(inverse, inverse.mT)
    assert torch.allclose(pivots.log().sum(-1), torch.linalg.slogdet(stack).logabsdet)


@pytest.mark.parametrize("side", SIDES)
def test_as_many_pivots_are_positive_as_eigenvalues(side: int) -> None:
    stack = torch.stack([symmetric(side, seed) for seed in range(4)])
    shifts = torch.tensor([-3.0, 0.0, 0.5, 4.0]).double()
    shifted = stack - shifts[:, None, None] * torch.eye(side)
    inverse, pivots = invert(shifted)
    positive = (torch.linalg.eigvalsh(stack) > shifts[:, None]).sum(-1)
    assert torch.equal((pivots > 0).sum(-1), positive)
    assert torch.allclose(inverse, torch.linalg.inv(shifted), rtol=1e-6, atol=1e-6)


def test_a_singular_matrix_is_no_error() -> None:
    stack = torch.stack([torch.zeros(9, 9), torch.eye(9)]).double()
    inverse, pivots = invert(stack)
    assert not torch.isfinite(inverse[0]).any() and float(pivots[0, 0]) == 0
    assert torch.equal(inverse[1], torch.eye(9).double())


def test_factors_without_a_change_of_rows() -> None:
    stack = torch.stack([symmetric(11, seed) for seed in range(3)])
    factors = unpivoted_lu(stack)
    lower = factors.tril(-1) + torch.eye(11)
    assert torch.allclose(lower @ factors.triu(), stack, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu() -> None:
    """CUDA's own factors without a change of rows are those of the loop."""
    stack = torch.stack([symmetric(3 * LEAF + 5, seed) for seed in range(5)])
    for ours, theirs in zip(invert(stack), invert(stack.cuda()), strict=True):
        assert torch.allclose(theirs.cpu(), ours, rtol=1e-6, atol=1e-6)
