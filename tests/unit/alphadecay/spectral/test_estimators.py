"""Estimates against a float64 singular value decomposition."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch

from alphadecay import config
from alphadecay.spectral import (
    ESTIMATORS,
    FIELDS,
    GRAM_METHODS,
    METHODS,
    NORMS,
    TAILS,
    EstimateRow,
    Status,
    estimate,
    estimate_from_gram,
    pl_alpha_hill,
    take_gram,
    to_estimate,
)
from alphadecay.spectral.gram import gram_lower
from tests.unit.alphadecay.spectral.matrices import gaussian, oracle, power_law, spiked

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
    assert estimate(weight, published=published, precision=torch.float64)[
        0
    ].item() == pytest.approx(oracle(weight, published), rel=1e-6)
    assert to_estimate(row.pack().tolist()).status is Status.OK


def test_published_index_differs_from_the_papers() -> None:
    weight = CASES["gaussian"].float()
    assert estimate(weight)[0] < estimate(weight, published=True)[0] - 1e-4


def test_gram_then_solve_is_the_same() -> None:
    weight = CASES["wide"].float()
    assert torch.equal(
        estimate(weight).pack(), estimate_from_gram(take_gram(weight, torch.float32)).pack()
    )


BROKEN = {
    "nan": (torch.full((16, 16), math.nan), Status.NOT_FINITE),
    "one inf": (
        torch.eye(16).index_put((torch.tensor(3), torch.tensor(2)), torch.tensor(math.inf)),
        Status.NOT_FINITE,
    ),
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
    result = to_estimate(estimate(weight, method=method, precision=torch.float64).pack().tolist())
    assert result.status is status and math.isnan(result.alpha)
    with pytest.raises(ValueError, match=status.label):
        pl_alpha_hill(weight)


@pytest.mark.parametrize("scale", [1e20, 1e-24, 1e-40, 3e37])
def test_extreme_scales(scale: float) -> None:
    weight = gaussian(40, 60).clamp(-3, 3)
    scaled = (weight * scale).float()
    assert pl_alpha_hill(scaled) == pytest.approx(oracle(scaled), rel=1e-4)
    x_min = np.sort(np.linalg.svd(scaled.double().numpy(), compute_uv=False) ** 2)[19]
    assert to_estimate(estimate(scaled).pack().tolist()).x_min == pytest.approx(x_min, rel=1e-4)


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


def trained() -> list[torch.Tensor]:
    """Weights of a small classifier after 150 steps of AdamW: three spectra with real learned
    tails.
    """
    torch.manual_seed(0)
    inputs = torch.randn(512, 64)
    labels = (inputs[:, :8].sin() @ torch.randn(8, 10)).argmax(-1)
    weights = [
        (torch.randn(shape) / shape[1] ** 0.5).requires_grad_()
        for shape in ((96, 64), (96, 96), (10, 96))
    ]
    optimizer = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.1)
    for _ in range(150):
        hidden = torch.relu(torch.relu(inputs @ weights[0].T) @ weights[1].T)
        loss = torch.nn.functional.cross_entropy(hidden @ weights[2].T, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    return weights


def test_trained_weights() -> None:
    for weight in trained():
        assert pl_alpha_hill(weight) == pytest.approx(oracle(weight), rel=1e-4)
        assert estimate(weight, precision=torch.float64)[0].item() == pytest.approx(
            oracle(weight), rel=1e-6
        )
        assert not estimate(weight).pack().requires_grad


def test_near_deficient_matrices_escalate() -> None:
    for exponent in (1.25, 1.3, 1.35):
        weight = power_law(96, 128, exponent).float()
        assert estimate(weight)[FIELDS.index("escalate")] == 1
        assert pl_alpha_hill(weight) == pytest.approx(oracle(weight), rel=1e-6)


def test_nearly_equal_eigenvalues_escalate() -> None:
    weight = power_law(96, 96, 200.0).float()
    assert estimate(weight)[FIELDS.index("escalate")] == 1
    assert pl_alpha_hill(weight) == pytest.approx(oracle(weight), rel=1e-6)


def test_global_settings_come_back() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        weight = CASES["gaussian"].float()
        assert pl_alpha_hill(weight) == pytest.approx(oracle(weight), rel=1e-5)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("shape", [(9, 9), (30, 70), (70, 30), (128, 128), (33, 33)])
def test_gram_has_the_right_lower_triangle(shape: tuple[int, int]) -> None:
    weight = gaussian(*shape)
    smaller = weight if shape[0] <= shape[1] else weight.T
    assert torch.allclose(gram_lower(weight).tril(), (smaller @ smaller.T).tril(), rtol=1e-12)
    assert take_gram(weight * 2.0**40).exponent == take_gram(weight * 2.0**30).exponent + 10


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu(name: str) -> None:
    weight = CASES[name].float().cuda()
    torch.set_float32_matmul_precision("high")
    try:
        assert pl_alpha_hill(weight) == pytest.approx(oracle(weight.cpu()), rel=1e-4)
        stack = estimate(weight.expand(3, -1, -1).clone()).pack()
        assert stack.is_cuda and torch.allclose(stack[2, 0], estimate(weight)[0], rtol=1e-4)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_configuration_offers_what_is_registered() -> None:
    def offered(kind: object) -> set[str]:
        return set(get_args(kind))

    assert offered(config.Tail) == set(TAILS)
    assert offered(config.Method) == {*METHODS, *GRAM_METHODS}
    assert offered(config.Score) - {"alpha"} == set(NORMS)
    assert set(ESTIMATORS) == {*METHODS, *GRAM_METHODS, *NORMS}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_makes_a_typed_row(name: str) -> None:
    row = ESTIMATORS[name](CASES["spiked"], precision=torch.float64)
    assert isinstance(row, EstimateRow)
    assert {value.dtype for value in row} == {torch.float64}
    assert row.pack().shape == (len(FIELDS),)
    result = to_estimate(row.pack().tolist())
    assert result.status is Status.OK and result.alpha > 1
