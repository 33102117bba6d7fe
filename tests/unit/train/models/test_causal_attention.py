"""Attention is causal without a mask, and nobody asks the device whether it needs one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from train.config import ModelConfig
from train.models import spec_of
from train.models.build import build_model

LENGTH = 12
LLAMA = ModelConfig(
    vocab_size=67, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4, num_kv_heads=2
)
MODELS = [
    LLAMA,
    replace(LLAMA, architecture="qwen3", tie_embeddings=True),
    replace(LLAMA, architecture="gpt2", num_kv_heads=0, tie_embeddings=True),
]
TOKENS = torch.arange(2 * LENGTH).view(2, LENGTH)


@pytest.fixture(params=MODELS, ids=[model.architecture for model in MODELS])
def config(request) -> ModelConfig:
    return request.param


@pytest.fixture
def calls(monkeypatch):
    """Note what torch's attention is given."""
    noted: list[dict[str, Any]] = []
    attention = functional.scaled_dot_product_attention

    def noting(*args: Tensor, **kwargs: Any) -> Tensor:
        noted.append(kwargs)
        return attention(*args, **kwargs)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", noting)
    return noted


class Watch(TorchDispatchMode):
    """Counts the values that the host reads, and the tensors that are as large as a mask."""

    reads = 0
    masks = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.reads += "_local_scalar_dense" in str(func)
        self.masks += isinstance(found, Tensor) and found.shape[-2:] == (LENGTH, LENGTH)
        return found


def test_no_mask_is_made_and_nothing_read(calls, config):
    model = build_model(config, LENGTH, seed=3).train()
    with Watch() as watch:
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    assert len(calls) == config.num_layers
    assert all(call["attn_mask"] is None and call["is_causal"] for call in calls)
    assert (watch.reads, watch.masks) == (0, 0)


def test_the_bits_are_those_of_the_model_as_transformers_builds_it(config):
    spec = spec_of(config)
    model = build_model(config, LENGTH, seed=3).train()
    plain: Any = spec.bare(spec.config(config, LENGTH)).train()
    plain.load_state_dict(model.state_dict())
    losses = [one(input_ids=TOKENS, labels=TOKENS).loss for one in (model, plain)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_what_comes_later_changes_nothing(config):
    model = build_model(config, LENGTH, seed=3).eval()
    other = TOKENS.clone()
    other[:, 7:] += 5
    with torch.no_grad():
        one, two = (model(input_ids=tokens).logits for tokens in (TOKENS, other))
    assert torch.equal(one[:, :7], two[:, :7]) and not torch.equal(one[:, 7:], two[:, 7:])
