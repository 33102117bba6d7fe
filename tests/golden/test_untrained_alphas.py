"""Untrained weights are as README.md says: α tells their shape, `farms` takes the shape out."""

from __future__ import annotations

import pytest
import torch

from alphadecay import AdamW, AlphaDecay, pl_alpha_hill
from tests.conftest import ROOT

SQUARE, WIDE = 2.1, 3.0  # as the page says, to a tenth; 2.7 is what a LLaMA's MLP is wide by
SIDE = 512
LONG = 1376


def test_hill_tells_the_shape() -> None:
    generator = torch.Generator().manual_seed(0)
    square = torch.randn(SIDE, SIDE, generator=generator)
    wide = torch.randn(LONG, SIDE, generator=generator)
    assert round(LONG / SIDE, 1) == 2.7
    assert pl_alpha_hill(square) == pytest.approx(SQUARE, abs=0.05)
    assert pl_alpha_hill(wide) == pytest.approx(WIDE, abs=0.05)


def test_farms_does_not() -> None:
    torch.manual_seed(0)
    model = torch.nn.ModuleList([torch.nn.Linear(SIDE, SIDE), torch.nn.Linear(SIDE, LONG)])
    for layer in model:
        torch.nn.init.normal_(layer.weight, std=0.02)
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    alphas = AlphaDecay(model, optimizer, method="farms").alphas
    assert list(alphas.values()) == pytest.approx([SQUARE, SQUARE], abs=0.05)


def test_the_page_says_so() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"untrained square weights have {SQUARE}, those of 2.7 : 1" in text
    assert f"MLP has, {WIDE}." in text
    assert f"gives both {SQUARE}." in text
