"""Cuts of flat partitions along module borders, against a mask built element by element."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from alphadecay.modules import WeightModule
from alphadecay.optim.fragments import Fragments
from alphadecay.sharding.base import Span


def blocks(
    m: int, n: int, rows: int, columns: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Borders that split a matrix once each way."""
    for r in ((0, rows), (rows, m)):
        for c in ((0, columns), (columns, n)):
            if r[0] < r[1] and c[0] < c[1]:
                yield r, c


@given(
    m=st.integers(1, 7),
    n=st.integers(1, 7),
    rows=st.integers(0, 7),
    columns=st.integers(0, 7),
    data=st.data(),
)
def test_each_element_gets_its_own_modules_decay_once(
    m: int, n: int, rows: int, columns: int, data: st.DataObject
) -> None:
    parameter = nn.Parameter(torch.randn(m, n, dtype=torch.float64))
    modules = [
        WeightModule(f"w[{r}{c}]", parameter, n, r, c)
        for r, c in blocks(m, n, min(rows, m), min(columns, n))
    ]
    start = data.draw(st.integers(0, m * n))
    length = data.draw(st.integers(0, m * n - start))
    offset = data.draw(st.integers(0, 3))
    flat = torch.zeros(offset + length + 2, dtype=torch.float64)
    flat[offset : offset + length] = parameter.detach().view(-1)[start : start + length]
    flat.requires_grad_().grad = torch.zeros_like(flat)
    decays = {module.name: 0.1 * (i + 1) for i, module in enumerate(modules)}
    whole = torch.zeros(m, n, dtype=torch.float64)
    for module in modules:
        whole[slice(*module.rows), slice(*module.columns)] = decays[module.name]
    expected = flat.detach().clone()
    expected[offset : offset + length] *= 1 - 0.5 * whole.view(-1)[start : start + length]

    fragments = Fragments(modules, [Span(parameter, start, length, flat, offset, 0)])
    fragments.set_ratios({name: decay / 0.3 for name, decay in decays.items()})
    fragments.apply([({"lr": 0.5, "params": [flat]}, 0.3)], decoupled=True)
    torch.testing.assert_close(flat.detach(), expected, rtol=1e-12, atol=0)
    assert sum(fragments.elements.values()) == length


def test_views_follow_a_storage_that_moves() -> None:
    parameter = nn.Parameter(torch.ones(2, 3))
    fragments = Fragments(
        [WeightModule("w", parameter, 3, (0, 2), (0, 3))],
        [Span(parameter, 0, 6, parameter, 0, 0)],
    )
    fragments.set_ratios({"w": 5.0})
    parameter.grad = torch.zeros(2, 3)
    for _ in range(2):
        parameter.data = torch.ones(2, 3)
        fragments.apply([({"lr": 1.0, "params": [parameter]}, 0.1)], decoupled=True)
        assert parameter.tolist() == [[0.5] * 3] * 2


@pytest.mark.parametrize("has_gradient", [True, False])
def test_without_a_gradient_nothing_decays(has_gradient: bool) -> None:
    parameter = nn.Parameter(torch.ones(4))
    fragments = Fragments([], [Span(parameter, 0, 4, parameter, 0, 0)])
    parameter.grad = torch.zeros(4) if has_gradient else None
    fragments.apply([({"lr": 1.0, "params": [parameter]}, 0.5)], decoupled=True)
    assert parameter.tolist() == ([0.5] * 4 if has_gradient else [1.0] * 4)
