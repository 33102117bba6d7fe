"""α by moments against float64 singular values, its products rounded as a GPU's are."""

from __future__ import annotations

import math

import pytest
import torch

from alphadecay.spectral import (
    ESTIMATORS,
    GRAM_METHODS,
    EstimateRow,
    Gram,
    Status,
    chebyshev,
    estimate,
    estimate_from_gram,
    inversion,
    take_gram,
    to_estimate,
)
from alphadecay.spectral.moments import MOST_TOGETHER, SMALLEST, matrices_together, row_by_moments
from tests.unit.alphadecay.spectral.matrices import gaussian, oracle, power_law, spiked
from tests.unit.alphadecay.spectral.rounding import following_in_tf32

ERROR = 1e-3  # what the method promises, of α
SIDE = 240
FAMILIES = {
    "square": gaussian(SIDE, SIDE),
    "wide": gaussian(SIDE, 640),
    "tall": gaussian(640, SIDE, 3),
    "odd": gaussian(171, 193),
    "smallest": gaussian(SMALLEST, 200),
    "spiked": spiked(SIDE, 280),
    "outlier": gaussian(SIDE, SIDE) + 1e2 * gaussian(SIDE, 1) @ gaussian(1, SIDE),
    "bfloat16": gaussian(SIDE, 280, 5).bfloat16(),
    **{f"power {exponent}": power_law(SIDE, 280, exponent) for exponent in (1.5, 2.0, 3.0)},
}
# what its test of doubt is for: there it is wrong, or may be
DOUBTFUL = {
    "light tail": power_law(SIDE, 280, 4.0),
    "heavy tail": power_law(SIDE, 280, 1.2),
    "nearly equal": power_law(SIDE, 280, 200.0),
    "nearly deficient": gaussian(SIDE, 64) @ gaussian(64, 280) + 1e-6 * gaussian(SIDE, 280),
    "vast outlier": gaussian(SIDE, SIDE) + 1e5 * gaussian(SIDE, 1) @ gaussian(1, SIDE),
    "orthogonal": torch.linalg.qr(gaussian(SIDE, SIDE)).Q,
}


@pytest.fixture(autouse=True)
def tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chebyshev, "following", following_in_tf32)


def by_moments(weight: torch.Tensor, published: bool = False) -> tuple[EstimateRow, torch.Tensor]:
    gram = Gram.stack([take_gram(weight, torch.float64)])
    row, doubt = row_by_moments(gram, published=published)
    return row.unstack()[0], doubt[0]


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_agrees_with_float64_singular_values(name: str, published: bool) -> None:
    weight = FAMILIES[name]
    row, doubt = by_moments(weight, published)
    assert not doubt
    assert float(row.alpha) == pytest.approx(oracle(weight, published), abs=ERROR)
    exact = estimate(weight, published=published, precision=torch.float64)
    # an eigenvalue found as such, not estimated
    assert float(row.x_min) == pytest.approx(float(exact.x_min), rel=1e-6)
    assert (row.status, row.tail_count, row.escalate) == (Status.OK, exact.tail_count, 0)
    assert math.isnan(row.ks_distance)


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_it_cannot_vouch_for_is_solved(name: str) -> None:
    weight = DOUBTFUL[name]
    assert by_moments(weight)[1]
    row = ESTIMATORS["moments"](weight)
    exact = estimate(weight, precision=torch.float64)
    assert torch.equal(row.pack().nan_to_num(), exact.pack().nan_to_num())


BROKEN = {
    "nan": (torch.full((SIDE, SIDE), math.nan), Status.NOT_FINITE),
    "one inf": (
        torch.eye(SIDE).index_put((torch.tensor(3), torch.tensor(2)), torch.tensor(math.inf)),
        Status.NOT_FINITE,
    ),
    "zero": (torch.zeros(SIDE, 280), Status.ZERO),
    "identity": (torch.eye(SIDE), Status.DEGENERATE),
    "low rank": (gaussian(SIDE, 20) @ gaussian(20, SIDE), Status.RANK_DEFICIENT),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_inputs_get_their_status_and_spoil_no_other(name: str) -> None:
    weight, status = BROKEN[name]
    good = gaussian(SIDE, SIDE, 9)
    grams = [take_gram(one.double(), torch.float64) for one in (good, weight, good)]
    first, broken, last = GRAM_METHODS["moments"](grams)
    assert to_estimate(broken.pack().tolist()).status is status
    for row in (first, last):
        assert float(row.alpha) == pytest.approx(oracle(good), abs=ERROR)


@pytest.mark.parametrize("shape", [(7, 100), (1, 300), (0, 300), (60, 80)])
def test_small_matrices_are_solved(shape: tuple[int, int]) -> None:
    weight = gaussian(*shape)
    row = ESTIMATORS["moments"](weight).pack()
    exact = estimate(weight, precision=torch.float64).pack()
    assert torch.equal(row.nan_to_num(), exact.nan_to_num())


def test_a_stack_gives_what_each_gives_alone() -> None:
    weights = [gaussian(SIDE, 280, seed) * 2.0 ** (30 * seed) for seed in range(4)]
    weights.insert(2, DOUBTFUL["light tail"])
    grams = [take_gram(weight, torch.float64) for weight in weights]
    together = GRAM_METHODS["moments"](grams)
    for row, weight in zip(together, weights, strict=True):
        alone = ESTIMATORS["moments"](weight)
        # products of a stack may add in another order
        assert float(row.alpha) == pytest.approx(float(alone.alpha), abs=1e-6)
        assert float(row.x_min) == pytest.approx(float(alone.x_min), rel=1e-9)


def trained() -> list[torch.Tensor]:
    """Weights of a small classifier that has learned: their tails are heavier than at the start."""
    torch.manual_seed(0)
    inputs = torch.randn(256, 128)
    labels = (inputs[:, :8].sin() @ torch.randn(8, 10)).argmax(-1)
    shapes = ((160, 128), (200, 160), (10, 200))
    weights = [(torch.randn(shape) / shape[1] ** 0.5).requires_grad_() for shape in shapes]
    for _ in range(40):
        hidden = torch.relu(torch.relu(inputs @ weights[0].T) @ weights[1].T)
        loss = torch.nn.functional.cross_entropy(hidden @ weights[2].T, labels)
        with torch.no_grad():
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= 5e-3 * gradient.sign()
    assert loss.item() < 0.5
    return [weight.detach() for weight in weights[:2]]


def test_trained_weights() -> None:
    for weight in trained():
        row, doubt = by_moments(weight)
        assert not doubt
        assert float(row.alpha) == pytest.approx(oracle(weight), abs=ERROR)


@pytest.mark.parametrize("part", ["inverse", "pivots", "products"])
def test_a_fault_inside_is_seen(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step gets wrong shows in another: no row is trusted and wrong."""
    if part == "products":
        real_one = chebyshev.following
        monkeypatch.setattr(chebyshev, "following", lambda *parts: 1.01 * real_one(*parts))
    else:
        real = inversion._eliminate

        def wrong(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            inverse, pivots = real(matrix)
            return (inverse * 1.05, pivots) if part == "inverse" else (inverse, -pivots)

        monkeypatch.setattr(inversion, "_eliminate", wrong)
    for name in ("square", "wide", "spiked", "power 2.0"):
        weight = FAMILIES[name]
        row, doubt = by_moments(weight)
        assert doubt or float(row.alpha) == pytest.approx(oracle(weight), abs=ERROR)


def test_a_spectrum_that_is_pooled_is_solved() -> None:
    weight = gaussian(64, 36 * 9)
    row = ESTIMATORS["moments"](weight, kernel=9)
    exact = estimate(weight, kernel=9, precision=torch.float64)
    assert torch.equal(row.pack(), exact.pack())


def test_as_many_as_the_memory_is_good_for() -> None:
    assert matrices_together(2048, 80 * 2**30 // 12) == 21
    assert matrices_together(512, 80 * 2**30 // 12) == MOST_TOGETHER
    assert matrices_together(16384, 2**30) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the device's own TF32; the caller's setting comes back."""
    monkeypatch.undo()
    before = torch.get_float32_matmul_precision()
    square = [name for name, weight in FAMILIES.items() if min(weight.shape) == SIDE]
    grams = [take_gram(FAMILIES[name].cuda(), torch.float64) for name in square]
    row, doubt = row_by_moments(Gram.stack(grams), published=False)
    assert not doubt.any()
    for name, alpha in zip(square, row.alpha.tolist(), strict=True):
        assert alpha == pytest.approx(oracle(FAMILIES[name]), abs=ERROR)
    solved = [estimate_from_gram(gram) for gram in grams]
    assert row.x_min.tolist() == pytest.approx([float(one.x_min) for one in solved], rel=1e-6)
    assert torch.get_float32_matmul_precision() == before
