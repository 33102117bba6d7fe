"""Solvers that do not converge: float64, then the CPU, then a status; other errors travel."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from alphadecay.spectral import (
    METHODS,
    NORMS,
    Status,
    eigenvalues,
    estimate,
    estimate_from_gram,
    pl_alpha_hill,
    take_gram,
    to_estimate,
)
from alphadecay.spectral.estimators import ESTIMATORS
from tests.unit.alphadecay.spectral.matrices import gaussian, oracle

WEIGHT = gaussian(40, 60).float()
DIVERGED = torch.linalg.LinAlgError("linalg.eigh: The algorithm failed to converge")
SOLVERS = {"gram": "eigvalsh", "svd": "svdvals", "farms": "eigvalsh"}


def failing(
    monkeypatch: pytest.MonkeyPatch, name: str, when: Callable[[Tensor], bool], error: Exception
) -> list[torch.dtype]:
    """Make a solver of torch fail on some matrices; return what it was asked for."""
    asked: list[torch.dtype] = []
    real = getattr(torch.linalg, name)

    def solver(matrix: Tensor, **choices: str) -> Tensor:
        asked.append(matrix.dtype)
        if when(matrix):
            raise error
        return real(matrix, **choices)

    monkeypatch.setattr(torch.linalg, name, solver)
    return asked


@pytest.mark.parametrize("method", ["gram", "svd"])
def test_float32_that_diverges_is_solved_in_float64(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = failing(
        monkeypatch, SOLVERS[method], lambda matrix: matrix.dtype == torch.float32, DIVERGED
    )
    row = to_estimate(estimate(WEIGHT, method=method).pack().tolist())
    assert asked == [torch.float32, torch.float64]
    assert row.alpha == pytest.approx(oracle(WEIGHT), rel=1e-5)


@pytest.mark.parametrize(
    "message", ["failed to converge", "cusolver error: CUSOLVER_STATUS_FAILED"]
)
@pytest.mark.parametrize("method", METHODS)
def test_a_matrix_that_no_solver_converges_on_has_a_status(
    method: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = RuntimeError if "CUSOLVER" in message else torch.linalg.LinAlgError
    asked = failing(monkeypatch, SOLVERS[method], lambda matrix: True, kind(message))
    row = to_estimate(estimate(WEIGHT, method=method).pack().tolist())
    assert row.status is Status.NOT_CONVERGED and math.isnan(row.alpha) and not row.escalate
    assert asked[:3] == [torch.float32, torch.float64, torch.float64]
    assert eigenvalues(WEIGHT, method=method).isnan().all()
    if method == "gram":
        with pytest.raises(ValueError, match=r"not_converged: no solver converged"):
            pl_alpha_hill(WEIGHT)


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "eigvalsh", lambda matrix: True, DIVERGED)
    row = to_estimate(ESTIMATORS[name](WEIGHT).pack().tolist())
    assert row.status is Status.NOT_CONVERGED


def test_one_of_a_stack_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = torch.stack([WEIGHT, WEIGHT * 3 + 1, WEIGHT - 2])
    expected = estimate(stack).alpha
    bad = take_gram(stack[1]).matrix_KK
    failing(
        monkeypatch,
        "eigvalsh",
        lambda matrix: torch.allclose(matrix.tril(), bad.tril().to(matrix.dtype)),
        DIVERGED,
    )
    row = estimate(stack)
    assert row.status.tolist() == [Status.OK, Status.NOT_CONVERGED, Status.OK]
    assert torch.equal(row.alpha[[0, 2]], expected[[0, 2]])


def test_eigenvalues_that_are_not_numbers_have_not_converged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda *a, **k: real(*a, **k) * math.nan)
    assert int(estimate_from_gram(take_gram(WEIGHT)).status) == Status.NOT_CONVERGED


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("out of memory"), RuntimeError("device lost"), KeyboardInterrupt()],
)
def test_every_other_error_travels(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = failing(monkeypatch, "eigvalsh", lambda matrix: True, error)  # type: ignore[arg-type]
    with pytest.raises(type(error)):
        estimate(WEIGHT)
    assert asked == [torch.float32]


def test_eigenvalues_are_the_squared_singular_values_in_the_unit_of_the_weight() -> None:
    for scale in (1.0, 1e-25, 1e12):
        weight = (gaussian(30, 50) * scale).double()
        expected = torch.linalg.svdvals(weight).flip(-1).square()
        for method in ("gram", "svd"):
            found = eigenvalues(weight, method=method)
            assert torch.allclose(found, expected, rtol=1e-9)
    stack = torch.stack([gaussian(30, 50), torch.zeros(30, 50), gaussian(30, 50) * math.inf])
    found = eigenvalues(stack)
    assert torch.allclose(found[0], eigenvalues(stack[0])) and found[0].min() > 0
    assert found[1].eq(0).all() and found[2].isnan().all()


def test_what_has_no_spectrum_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[1, 9\]: a spectrum takes 2 eigenvalues"):
        eigenvalues(torch.ones(1, 9))
    with pytest.raises(ValueError, match="complex64: need a floating"):
        eigenvalues(torch.ones(9, 9, dtype=torch.complex64))
    with pytest.raises(ValueError, match="method='qr': choose one of gram, svd, farms"):
        eigenvalues(torch.ones(9, 9), method="qr")
