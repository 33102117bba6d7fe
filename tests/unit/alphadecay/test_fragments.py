"""Cuts of flat partitions along module borders, against a mask built element by element."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from alphadecay import AdamW
from alphadecay.fragments import Fragments, Span
from alphadecay.modules import WeightModule


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

    fragments = Fragments(modules, [Span(parameter, start, length, flat, offset, 0.3)])
    fragments.set_weight_decays(decays)
    fragments.apply([{"lr": 0.5, "params": [flat], "weight_decay": 0.0}], decoupled=True)
    torch.testing.assert_close(flat.detach(), expected, rtol=1e-12, atol=0)
    assert sum(fragments.elements.values()) == length


def test_views_follow_a_storage_that_moves() -> None:
    parameter = nn.Parameter(torch.ones(2, 3))
    fragments = Fragments(
        [WeightModule("w", parameter, 3, (0, 2), (0, 3))],
        [Span(parameter, 0, 6, parameter, 0, 0.1)],
    )
    fragments.set_weight_decays({"w": 0.5})
    parameter.grad = torch.zeros(2, 3)
    for _ in range(2):
        parameter.data = torch.ones(2, 3)
        fragments.apply([{"lr": 1.0, "params": [parameter], "weight_decay": 0.0}], decoupled=True)
        assert parameter.tolist() == [[0.5] * 3] * 2


@pytest.mark.parametrize("has_gradient", [True, False])
def test_without_a_gradient_nothing_decays(has_gradient: bool) -> None:
    parameter = nn.Parameter(torch.ones(4))
    fragments = Fragments([], [Span(parameter, 0, 4, parameter, 0, 0.5)])
    parameter.grad = torch.zeros(4) if has_gradient else None
    fragments.apply([{"lr": 1.0, "params": [parameter], "weight_decay": 0.0}], decoupled=True)
    assert parameter.tolist() == ([0.5] * 4 if has_gradient else [1.0] * 4)


def test_groups_are_cut_by_decay_where_a_tensor_has_one() -> None:
    """Two matrices, one fused weight with a decay per half, one whose decay is per element, an
    exempt vector.
    """
    tensors = {name: nn.Parameter(torch.ones(4, 3)) for name in ("a", "b", "fused", "each")} | {
        "gain": nn.Parameter(torch.ones(3))
    }
    for tensor in tensors.values():
        tensor.grad = torch.ones_like(tensor)
    modules = [WeightModule(name, tensors[name], 3, (0, 4), (0, 3)) for name in ("a", "b", "each")]
    modules += [
        WeightModule("fused[0]", tensors["fused"], 3, (0, 2), (0, 3)),
        WeightModule("fused[1]", tensors["fused"], 3, (2, 4), (0, 3)),
    ]
    fragments = Fragments(
        modules,
        [Span(t, 0, t.numel(), t, 0, 0.1) for t in tensors.values()],
        exempt=[tensors["gain"]],
    )
    fragments.set_weight_decays(
        {"a": 0.5, "b": 0.25, "fused[0]": 0.5, "fused[1]": 0.25, "each": 0.9}
    )
    fragments.per_element["each"] = lambda gradient: 0.125 * gradient
    group = {"lr": 1.0, "params": list(tensors.values()), "weight_decay": 0.0, "eps": 7.0}
    groups = fragments.by_decay([group])
    names = {id(tensor): name for name, tensor in tensors.items()}
    cut = {g["weight_decay"]: [names[id(tensor)] for tensor in g["params"]] for g in groups}
    assert cut == {0.5: ["a"], 0.25: ["b"], 0.0: ["fused", "each", "gain"]}
    assert {(g["lr"], g["eps"]) for g in groups} == {(1.0, 7.0)} and group["weight_decay"] == 0.0
    fragments.apply(groups, decoupled=True)  # what is left for the pass
    with torch.no_grad():
        found = {name: tensor.unique().tolist() for name, tensor in tensors.items()}
    assert found == {"a": [1.0], "b": [1.0], "fused": [0.5, 0.75], "each": [0.875], "gain": [1.0]}
    fragments.per_element.clear()
    assert [
        names[id(t)]
        for g in fragments.by_decay([group])
        if g["weight_decay"] == 0.9
        for t in g["params"]
    ] == ["each"]


def test_a_step_leaves_the_groups_as_they_were() -> None:
    parameter = nn.Parameter(torch.ones(2, 3))
    optimizer = AdamW([parameter], lr=0.1, weight_decay=0.5)
    fragments = Fragments(
        [WeightModule("w", parameter, 3, (0, 2), (0, 3))],
        [Span(parameter, 0, 6, parameter, 0, 0.5)],
    )
    fragments.set_weight_decays(fragments.base)
    optimizer.bind_fragments(fragments)
    groups = optimizer.param_groups
    group = dict(optimizer.param_groups[0])
    parameter.grad = torch.ones(2, 3).to_sparse()  # which torch's AdamW refuses
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert optimizer.param_groups is groups and groups == [group]
