"""The precision of products, whatever torch offers to set it; and devices without float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from alphadecay.spectral import eigenvalues, estimate, gram, pl_alpha_hill
from tests.unit.alphadecay.spectral.matrices import gaussian, oracle

WEIGHT = gaussian(64, 90).float()


@pytest.fixture
def without_matmul(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A torch whose mkldnn has no switch of its own, as 2.6 to 2.8 are."""
    if hasattr(torch.backends.mkldnn, "matmul"):
        bare = type("Bare", (), {})()
        monkeypatch.setattr(torch.backends, "mkldnn", bare)
    yield


def test_an_older_torch_is_set_by_its_one_setting(without_matmul: None) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with gram.full_precision(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
        assert pl_alpha_hill(WEIGHT) == pytest.approx(oracle(WEIGHT), rel=1e-5)
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_setting_comes_back_after_an_error(without_matmul: None) -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with (
            pytest.raises(RuntimeError, match="inside"),
            gram.full_precision(torch.device("cpu")),
        ):
            raise RuntimeError("inside")
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("method", ["gram", "svd", "farms"])
def test_a_device_without_float64_hands_its_weights_to_the_cpu(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = []
    to_cpu = torch.Tensor.cpu
    monkeypatch.setattr(gram, "has_float64", lambda device_type: False)
    monkeypatch.setattr(
        torch.Tensor, "cpu", lambda self: moved.append(tuple(self.shape)) or to_cpu(self)
    )
    row = estimate(WEIGHT, method=method)
    assert moved == [tuple(WEIGHT.shape)]
    monkeypatch.undo()
    assert torch.equal(row.pack(), estimate(WEIGHT, method=method).pack())


def test_has_float64_asks_the_device() -> None:
    assert gram.has_float64("cpu")
    assert gram.has_float64("meta")


def test_a_gram_carries_its_exponent() -> None:
    taken = gram.take_gram(WEIGHT * 2.0**40, torch.float64)
    values = torch.linalg.eigvalsh(taken.matrix_KK, UPLO="L") * 4.0 ** int(taken.exponent)
    assert torch.allclose(values, eigenvalues(WEIGHT * 2.0**40), rtol=1e-10)
