"""Cuts of flat partitions along module borders, against a mask built element by element."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

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


@settings(deadline=None)
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


class Launches(TorchDispatchMode):
    """Counts the operations that would be kernels: all but views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if not function.is_view:
            self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("count", [3, 60])
@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("flat", [False, True])
def test_a_steps_decay_takes_two_launches_a_type_at_most(
    count: int, decoupled: bool, flat: bool
) -> None:
    """On the meta device, which takes the accelerators' path; half of the weights in float64."""
    tensors = []
    modules = []
    spans = []
    for dtype in (torch.float32, torch.float64):
        whole = nn.Parameter(torch.zeros(count * 6, dtype=dtype, device="meta"))
        for index in range(count):
            name = f"{dtype}.{index}"
            parameter = nn.Parameter(torch.zeros(2, 3, dtype=dtype, device="meta"))
            modules.append(WeightModule(name, parameter, 3, (0, 2), (0, 3)))
            tensor, offset = (whole, 6 * index) if flat else (parameter, 0)
            spans.append(Span(parameter, 0, 6, tensor, offset, 0))
            tensors += [] if flat else [parameter]
        tensors += [whole] if flat else []
    for tensor in tensors:
        tensor.grad = torch.zeros_like(tensor)
    fragments = Fragments(modules, spans)
    fragments.set_ratios({m.name: 0.5 + i / len(modules) for i, m in enumerate(modules)})
    with Launches() as launches:
        fragments.apply([({"lr": 0.1, "params": tensors}, 0.1)], decoupled)
    assert len(launches.names) == (2 if decoupled else 4)
    assert all("_foreach_" in name for name in launches.names)


@pytest.mark.parametrize("split", [False, True])
def test_a_storage_that_a_parameter_has_left_is_freed(split: bool) -> None:
    parameter = nn.Parameter(torch.ones(4, 3))
    rows = [(0, 2), (2, 4)] if split else [(0, 4)]
    modules = [WeightModule(f"w{i}", parameter, 3, r, (0, 3)) for i, r in enumerate(rows)]
    fragments = Fragments(modules, [Span(parameter, 0, 12, parameter, 0, 0)])
    parameter.grad = torch.zeros(4, 3)
    fragments.apply([({"lr": 0.1, "params": [parameter]}, 0.1)], decoupled=True)
    left = StorageWeakRef(parameter.untyped_storage())
    parameter.data = torch.ones(4, 3)
    assert left.expired()


def test_a_learning_rate_that_is_a_tensor() -> None:
    """On the CPU it is read; elsewhere it is not, so that nothing waits for its device."""
    parameter = nn.Parameter(torch.ones(2, 3))
    parameter.grad = torch.zeros(2, 3)
    fragments = Fragments([], [Span(parameter, 0, 6, parameter, 0, 0)])
    fragments.apply([({"lr": torch.tensor(0.5), "params": [parameter]}, 0.5)], decoupled=True)
    assert parameter.tolist() == [[0.75] * 3] * 2
    absent = nn.Parameter(torch.ones(2, 3, device="meta"))
    absent.grad = torch.zeros_like(absent)
    fragments = Fragments([], [Span(absent, 0, 6, absent, 0, 0)])
    lr = torch.tensor(0.5, device="meta")  # reading it would raise
    fragments.apply([({"lr": lr, "params": [absent]}, 0.5)], decoupled=True)


def test_learning_rates_of_both_kinds_in_one_optimizer() -> None:
    """A number beside a tensor on a device, which torch does not take in one list."""
    pair = [nn.Parameter(torch.ones(2, 3, device="meta")) for _ in range(2)]
    for parameter in pair:
        parameter.grad = torch.zeros_like(parameter)
    rates = (0.5, torch.tensor(0.5, device="meta"))
    held = [({"lr": lr, "params": [p]}, 0.5) for lr, p in zip(rates, pair, strict=True)]
    fragments = Fragments([], [Span(p, 0, 6, p, 0, i) for i, p in enumerate(pair)])
    with Launches() as launches:
        fragments.apply(held, decoupled=True)
    assert sum("_foreach_mul_" in name for name in launches.names) == 2
