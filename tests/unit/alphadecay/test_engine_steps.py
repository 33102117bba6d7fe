"""A step that an engine took past the optimizer's hooks is refused, whatever makes the decays."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from alphadecay import AdamW, AlphaDecay
from alphadecay.baselines.fixed_norms import FixedNorms
from alphadecay.baselines.gradient_decay import GradientDecay
from tests.unit.alphadecay.nets import Plain

KINDS: dict[str, Callable[[nn.Module, Any], Any]] = {
    "alphadecay": lambda model, optimizer: AlphaDecay(model, optimizer, interval=100),
    "awd": lambda model, optimizer: GradientDecay(model, optimizer, rule="awd"),
    "adadecay": lambda model, optimizer: GradientDecay(model, optimizer, rule="adadecay"),
    "lawn": lambda model, optimizer: FixedNorms(model, optimizer, rule="lawn"),
    "hyperball": lambda model, optimizer: FixedNorms(model, optimizer, rule="hyperball"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_nothing_decayed_is_refused_unless_it_was_skipped(kind: str) -> None:
    model = Plain()
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    decay = KINDS[kind](model, optimizer)
    engine = SimpleNamespace(global_steps=0, was_step_applied=lambda: False)
    decay._attachment._engine = engine
    assert decay.step() is False  # between accumulation boundaries
    engine.global_steps = 1  # an overflow: counted, and not taken
    assert decay.step() is False
    for parameter in model.parameters():
        parameter.grad = parameter.detach().clone()
    optimizer.step()
    engine.global_steps = 2
    engine.was_step_applied = lambda: True
    assert decay.step() is False
    engine.global_steps = 3  # its own step, not the optimizer's
    with pytest.raises(RuntimeError, match=r"the engine took a step without AdamW\.step"):
        decay.step()
