"""Sums over pieces of tensors against float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alphadecay.optim import copies
from alphadecay.optim.arithmetic import inner, magnitude, sum_pieces


def pair(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(300, 70, generator=generator).to(dtype),
        torch.randn(300, 70, generator=generator).to(dtype),
    )


def moments(gradient: Tensor, weight: Tensor) -> list[Tensor]:
    return [magnitude(gradient), inner(gradient, gradient), inner(weight, weight)]


@pytest.mark.parametrize("chunk", [100, 1 << 16])
@pytest.mark.parametrize(
    ("dtype", "near"),
    # up to 2^16 products are added in float32
    [(torch.float32, 1e-6), (torch.float64, 1e-14), (torch.bfloat16, 1e-6)],
)
def test_sums_are_those_of_float64(
    dtype: torch.dtype, near: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_CHUNK", chunk)
    gradient, weight = pair(dtype)
    found = sum_pieces(moments, gradient, weight)
    wide, other = gradient.double(), weight.double()
    expected = [wide.abs().sum(), wide.square().sum(), other.square().sum()]
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.stack(expected), rtol=near, atol=0)


def test_strided_views_and_mixed_types() -> None:
    gradient, weight = pair()
    view = gradient[:, 3:40]
    same = sum_pieces(moments, view, weight[:, 3:40])
    whole = sum_pieces(moments, view.clone(), weight[:, 3:40].clone())
    torch.testing.assert_close(same, whole, rtol=1e-6, atol=0)
    mixed = inner(gradient.bfloat16(), weight)
    exact = (gradient.bfloat16().double() * weight.double()).sum()
    assert mixed.dtype == torch.float32
    assert float(mixed) == pytest.approx(float(exact), rel=1e-5)
