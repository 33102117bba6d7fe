"""Optimizers and models inside other libraries' wrappers: opened down to what steps, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from alphadecay import AdamW, AlphaDecay
from alphadecay.optim.wrapped import opened, unwrapped
from tests.unit.alphadecay.nets import Plain, shrinkage

LR = 1e-2
Make = Callable[[nn.Module], list[torch.optim.Optimizer]]


def stock(model: nn.Module) -> list[torch.optim.Optimizer]:
    return [torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1)]


def ours(model: nn.Module) -> list[torch.optim.Optimizer]:
    return [AdamW(model.parameters(), lr=LR, weight_decay=0.1)]


def muon(model: Any) -> list[torch.optim.Optimizer]:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    rest = [p for p in model.parameters() if p is not model.up.weight]
    return [
        torch.optim.Muon([model.up.weight], lr=LR, weight_decay=0.1),
        torch.optim.AdamW(rest, lr=LR, weight_decay=0.1),
    ]


MAKERS = pytest.mark.parametrize("make", [stock, ours, muon])


def check(model: nn.Module, decay: AlphaDecay, *stepping: Any) -> None:
    """A step on zero gradients shrinks each module by 1 - lr * decay, and the norm not at all."""
    left = shrinkage(model, *stepping)
    assert set(decay.weight_decays) == {"up.weight", "down.weight", "mix.weight"}
    for name, weight_decay in decay.weight_decays.items():
        assert left[name] == pytest.approx(1 - LR * weight_decay, abs=1e-6), name
    assert left["norm.weight"] == 1.0
    assert decay.step() is False
    assert len(set(decay.weight_decays.values())) == 3


@MAKERS
def test_accelerate(make: Make) -> None:
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = Plain(norm=True)
    wrapped, *optimizers = accelerator.prepare(model, *make(model))
    check(model, AlphaDecay(wrapped, optimizers), *optimizers)


def test_accelerate_counts_optimizer_steps_and_not_micro_batches() -> None:
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate")
    # a Trainer of an earlier test has left its own, which every Accelerator would share
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=4)
    model = Plain()
    wrapped, optimizer = accelerator.prepare(model, stock(model)[0])
    decay = AlphaDecay(wrapped, optimizer, interval=3)
    refreshed = []
    for micro in range(1, 33):
        with accelerator.accumulate(wrapped):
            accelerator.backward(wrapped(torch.ones(2, 24)).square().mean())
            optimizer.step()
            optimizer.zero_grad()
            if decay.step():
                refreshed.append(micro)
    assert refreshed == [8, 20, 32]  # after optimizer steps 2, 5 and 8


@MAKERS
def test_fabric(make: Make) -> None:
    fabric = pytest.importorskip("lightning_fabric", reason="needs lightning-fabric").Fabric(
        accelerator="cpu", devices=1
    )
    model = Plain(norm=True)
    wrapped, *optimizers = fabric.setup(model, *make(model))
    check(model, AlphaDecay(wrapped, optimizers), *optimizers)


@MAKERS
def test_lightnings_optimizer(make: Make) -> None:
    module = pytest.importorskip("pytorch_lightning.core.optimizer", reason="needs lightning")
    model = Plain(norm=True)
    optimizers = [module.LightningOptimizer(each) for each in make(model)]
    decay = AlphaDecay(model, optimizers)
    check(model, decay, *(each.optimizer for each in optimizers))


class OptimizersContainer(torch.optim.Optimizer):
    """torchtitan's: an optimizer by type that holds a list and steps each."""

    def __init__(self, optimizers: list[torch.optim.Optimizer]) -> None:
        self.optimizers = optimizers
        parameters = [p for o in optimizers for g in o.param_groups for p in g["params"]]
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> None:
        for optimizer in self.optimizers:
            optimizer.step()


@MAKERS
def test_a_container(make: Make) -> None:
    model = Plain(norm=True)
    container = OptimizersContainer(make(model))
    check(model, AlphaDecay(model, container), container)


def test_what_hides_an_optimizer_in_another_way_is_refused() -> None:
    class Lookahead(torch.optim.Optimizer):
        def __init__(self, base_optimizer: torch.optim.Optimizer) -> None:
            self.base_optimizer = base_optimizer
            super().__init__(base_optimizer.param_groups, {})

    (inner,) = stock(Plain())
    with pytest.raises(ValueError, match=r"Lookahead wraps another.*optimizer\.base_optimizer"):
        opened(Lookahead(inner))
    with pytest.raises(ValueError, match="takes a torch optimizer, got dict"):
        opened({})
    assert opened((inner, [inner])) == [inner, inner]


class FabricModule(nn.Module):
    """Lightning Fabric's: what runs, and what the user gave."""

    def __init__(self, forward_module: nn.Module, original_module: nn.Module) -> None:
        super().__init__()
        self._forward_module = forward_module
        self._original_module = original_module


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: FabricModule(model, model),
        torch.compile,
        nn.DataParallel,
        lambda model: FabricModule(nn.DataParallel(torch.compile(model)), model),
    ],
    ids=["fabric", "compile", "data-parallel", "all"],
)
def test_wrapped_models(wrap: Callable[[nn.Module], Any]) -> None:
    model = Plain(norm=True)
    (optimizer,) = ours(model)
    check(model, AlphaDecay(wrap(model), optimizer), optimizer)


def test_checkpoint_wrappers_inside_a_model() -> None:
    model = Plain(norm=True)
    (optimizer,) = ours(model)
    model.up = checkpoint_wrapper(model.up)
    decay = AlphaDecay(model, optimizer)
    assert list(decay.weight_decays) == ["up.weight", "down.weight", "mix.weight"]


def test_an_optimizer_that_steps_several_is_opened() -> None:
    class Both(torch.optim.Optimizer):
        """As users write for a loop that takes one optimizer."""

        def __init__(self, optimizers: list[torch.optim.Optimizer]) -> None:
            self.optimizers = optimizers

    model = Plain()
    parts = muon(model)
    assert opened(Both(parts)) == parts
    assert opened([Both(parts[:1]), parts[1]]) == parts


def test_a_list_of_one_is_the_one() -> None:
    (optimizer,) = stock(Plain())
    assert unwrapped([optimizer]) is optimizer
