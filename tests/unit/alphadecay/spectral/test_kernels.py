"""Convolutions: one matrix by default, the published pool of kernel positions in its mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alphadecay.spectral import Status, estimate, to_estimate
from tests.unit.alphadecay.spectral.matrices import gaussian, oracle

WEIGHT_OIHW = (
    gaussian(32, 16 * 9).reshape(32, 16, 3, 3)
    * torch.linspace(0.1, 2, 32)[:, None, None, None].double()
)


def pooled_alpha(weight_OIHW: torch.Tensor) -> tuple[float, float]:
    """α and x_min of the singular values of all positions, squared and halved."""
    values = np.sort(
        np.concatenate(
            [
                np.linalg.svd(weight_OIHW[:, :, row, column].numpy(), compute_uv=False) ** 2 / 2
                for row in range(weight_OIHW.shape[2])
                for column in range(weight_OIHW.shape[3])
            ]
        )
    )
    tail = values[len(values) // 2 :]
    return float(1 + len(tail) / np.log(tail / tail[0]).sum()), float(tail[0])


@pytest.mark.parametrize("method", ["gram", "svd"])
def test_published_positions_are_pooled(method: str) -> None:
    flat = WEIGHT_OIHW.flatten(1)
    row = estimate(flat, method=method, published=True, kernel=9, precision=torch.float64)
    found = to_estimate(row.pack().tolist())
    assert (found.alpha, found.x_min) == pytest.approx(pooled_alpha(WEIGHT_OIHW), rel=1e-6)
    assert found.tail_count == 72
    assert abs(found.alpha - oracle(flat, published=True)) > 0.05


def test_one_matrix_by_default() -> None:
    flat = WEIGHT_OIHW.flatten(1)
    assert float(estimate(flat, precision=torch.float64).alpha) == pytest.approx(
        oracle(flat), rel=1e-6
    )


def test_fifty_eigenvalues_of_all_positions_together_are_enough() -> None:
    few = estimate(gaussian(4, 3 * 9), published=True, kernel=9)
    enough = estimate(gaussian(4, 3 * 25), published=True, kernel=25)
    assert (int(few.status), int(enough.status)) == (Status.TOO_SMALL, Status.OK)


def test_a_position_that_is_not_finite_marks_the_whole() -> None:
    weight = WEIGHT_OIHW.clone()
    weight[3, 4, 1, 1] = torch.nan
    assert int(estimate(weight.flatten(1), published=True, kernel=9).status) == Status.NOT_FINITE
