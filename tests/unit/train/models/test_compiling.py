"""Compiled layers: one code for all of them, outside of it hooks, and seconds that are counted.

Torch's own compiler is replaced by the one that runs the traced graphs as they are, which takes no
C++ compiler and no minute; tests/distributed/test_compile.py has the real one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from train.config import ModelConfig
from train.models import compiling
from train.models.build import build_model

LAYERS = 10  # more than the eight codes that torch keeps of one function
MODEL = ModelConfig(
    vocab_size=67, hidden_size=16, intermediate_size=24, num_layers=LAYERS, num_heads=2
)
TOKENS = torch.arange(24).view(2, 12)


@pytest.fixture(autouse=True)
def eager_compiler(monkeypatch):
    """Trace, and run what was traced as it is."""
    compile_with = torch.compile

    def traced(function: Any, **options: Any) -> Any:
        return compile_with(function, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", traced)
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def step(model: torch.nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of one batch."""
    model.zero_grad()
    loss = model(input_ids=TOKENS, labels=TOKENS).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"architecture": "qwen3"},
        {"architecture": "gpt2"},
        {"quantize": "b158-mean"},
    ],
)
@pytest.mark.parametrize("recompute", [False, True])
def test_one_code_for_all_layers_and_the_same_gradients(recompute, kind):
    config = replace(MODEL, activation_checkpointing=recompute, compile=False, **kind)
    plain = build_model(config, 12, seed=3).train()
    compiled = build_model(replace(config, compile=True), 12, seed=3).train()
    assert list(plain.state_dict()) == list(compiled.state_dict())
    loss, gradients = step(plain)
    for _ in range(2):
        other, others = step(compiled)
        torch.testing.assert_close(loss, other, rtol=1e-6, atol=0)
        torch.testing.assert_close(gradients, others, rtol=1e-5, atol=1e-7)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_a_validation_runs_as_written():
    plain = build_model(replace(MODEL, compile=False), 12, seed=3).eval()
    compiled = build_model(replace(MODEL, compile=True), 12, seed=3)
    step(compiled.train())
    compiled.eval()
    for rows in (1, 2):  # the last batch may be smaller
        with torch.no_grad():
            found = [model(input_ids=TOKENS[:rows]).logits for model in (compiled, plain)]
        assert torch.equal(*found)
    step(compiled.train())
    assert counters["stats"]["unique_graphs"] == 1


def test_hooks_stay_outside():
    model = build_model(replace(MODEL, compile=True), 12, seed=3).train()
    seen = []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(layer))
    step(model)
    assert seen == list(model.model.layers)
    assert not counters["graph_break"]


def test_the_loss_is_compiled_too():
    config = replace(MODEL, num_layers=1, fused_cross_entropy="chunked")
    losses = [
        step(build_model(replace(config, compile=on), 12, seed=3).train())[0]
        for on in (True, False)
    ]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)
    assert counters["stats"]["unique_graphs"] == 2


def test_the_seconds_are_counted(monkeypatch):
    model = build_model(replace(MODEL, compile=True), 12, seed=3).train()
    before = compiling.compile_seconds()
    step(model)
    first = compiling.compile_seconds()
    step(model)
    assert first > before and compiling.compile_seconds() == first
