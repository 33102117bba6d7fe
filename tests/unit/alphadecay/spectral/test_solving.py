"""Several Grams at once: the rows of one by one, in their order; errors reach the caller."""

from __future__ import annotations

import threading

import pytest
import torch

from alphadecay.spectral import EstimateRow, Gram, estimate_from_gram, take_gram
from alphadecay.spectral.solving import SOLVERS, THREADS, Streams, Way, load_solvers
from tests.unit.alphadecay.spectral.matrices import gaussian, power_law

WEIGHTS = [power_law(40, 60, 1.5 + 0.2 * index) for index in range(6)]


def grams(precision: torch.dtype = torch.float32) -> list[Gram]:
    return [take_gram(weight, precision) for weight in WEIGHTS]


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_gives_the_rows_of_one_by_one(name: str, precision: torch.dtype) -> None:
    taken = grams(precision)
    rows = SOLVERS[name](taken, estimate_from_gram)
    assert len(rows) == len(taken)
    for row, gram in zip(rows, taken, strict=True):
        assert isinstance(row, EstimateRow)
        assert torch.equal(row.pack(), estimate_from_gram(gram).pack())


@pytest.mark.parametrize("name", SOLVERS)
def test_each_gram_keeps_its_own_scale_and_status(name: str) -> None:
    weights = [gaussian(24, 30), gaussian(24, 30) * 2.0**40, torch.zeros(24, 30).double()]
    taken = [take_gram(weight) for weight in weights]
    rows = SOLVERS[name](taken, estimate_from_gram)
    alone = [estimate_from_gram(gram).pack() for gram in taken]
    assert torch.equal(
        torch.stack([row.pack().nan_to_num() for row in rows]), torch.stack(alone).nan_to_num()
    )
    assert float(rows[1].x_min) == pytest.approx(float(rows[0].x_min) * 4.0**40, rel=1e-5)


def test_threads_solve_at_the_same_time() -> None:
    """Each solve waits for all the others, which only threads that run together can do."""
    together = threading.Barrier(THREADS, timeout=60)

    def solve(gram: Gram) -> EstimateRow:
        together.wait()
        return estimate_from_gram(gram)

    assert len(SOLVERS["threads"](grams()[:THREADS], solve)) == THREADS


@pytest.mark.parametrize("name", ["one_by_one", "threads"])
def test_an_error_of_one_is_raised(name: str) -> None:
    solved: list[float] = []

    def solve(gram: Gram) -> EstimateRow:
        row = estimate_from_gram(gram)
        solved.append(float(row.alpha))
        if len(solved) == 3:
            raise torch.OutOfMemoryError("out of memory")
        return row

    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        SOLVERS[name](grams(), solve)


def test_on_a_cpu_there_is_no_stream() -> None:
    taken = grams()
    row = Streams(taken).beside(estimate_from_gram, taken[0])
    assert torch.equal(row.pack(), estimate_from_gram(taken[0]).pack())


def test_solvers_are_loaded_once_before_threads_may(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[tuple[int, ...]] = []
    real = torch.linalg.eigvalsh
    monkeypatch.setattr(
        torch.linalg, "eigvalsh", lambda matrix: solved.append(matrix.shape) or real(matrix)
    )
    load_solvers.cache_clear()
    for _ in range(2):
        load_solvers(torch.device("cpu"))
    assert solved == [(2, 2)]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_a_way_travels_as_two_numbers(precision: torch.dtype, solver: str) -> None:
    way = Way(precision, solver)
    assert Way.unpack(torch.tensor(way.pack(), dtype=torch.float64).tolist()) == way


def test_one_by_one_holds_one_gram() -> None:
    assert Way().together == 1
    assert Way(solver="threads").together == THREADS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", SOLVERS)
def test_on_a_gpu(name: str) -> None:
    taken = [take_gram(gaussian(256, 300, seed).cuda(), torch.float64) for seed in range(9)]
    rows = SOLVERS[name](taken, estimate_from_gram)
    for row, gram in zip(rows, taken, strict=True):
        alone = estimate_from_gram(gram).pack()
        assert torch.allclose(row.pack().cpu(), alone.cpu(), rtol=1e-9)
