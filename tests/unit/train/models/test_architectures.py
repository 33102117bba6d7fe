"""What every architecture of a language model owes the program: initial values, layers, parts,
kernels, modules.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from alphadecay import AdamW, AlphaDecay
from train.config import ARCHITECTURES, ModelConfig
from train.errors import UserError
from train.models import chunked_loss, spec_of
from train.models.build import build_model, count_parameters

LLAMA = ModelConfig(
    vocab_size=67, hidden_size=32, intermediate_size=48, num_layers=3, num_heads=4, num_kv_heads=2
)
MODELS = {
    "llama": LLAMA,
    "qwen3": replace(LLAMA, architecture="qwen3", tie_embeddings=True),
    "gpt2": replace(LLAMA, architecture="gpt2", num_kv_heads=0, tie_embeddings=True),
}
TOKENS = torch.arange(24).view(2, 12)


@pytest.fixture(params=MODELS)
def config(request) -> ModelConfig:
    return MODELS[request.param]


def step(model: torch.nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of one batch."""
    loss = model(input_ids=TOKENS, labels=TOKENS).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def test_all_are_here():
    assert set(MODELS) == set(ARCHITECTURES["language_modelling"])


def test_gains_are_one_biases_zero_and_weights_normal(config):
    model = build_model(replace(config, hidden_size=64, vocab_size=503), 12, seed=3)
    spec = spec_of(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            assert (parameter == (0.0 if name.endswith("bias") else 1.0)).all(), name
        else:
            wanted = spec.initial_std(config, name)
            assert parameter.std().item() == pytest.approx(wanted, rel=0.1), name


def test_what_gpt2_adds_to_the_residual_stream_starts_small():
    config = MODELS["gpt2"]
    small = config.init_std / math.sqrt(2 * config.num_layers)
    spec = spec_of(config)
    assert spec.initial_std(config, "transformer.h.0.mlp.c_proj.weight") == small
    assert spec.initial_std(config, "transformer.h.0.mlp.c_fc.weight") == config.init_std


def test_layers_are_most_of_the_model_and_alike(config):
    model: Any = build_model(replace(config, vocab_size=16), 12, seed=3)
    layers = spec_of(config).layers(model)
    assert len(layers) == config.num_layers
    assert len({count_parameters(layer) for layer in layers}) == 1
    assert sum(map(count_parameters, layers)) > 0.9 * count_parameters(model)
    embedding, head = spec_of(config).ends(model)
    assert embedding.weight.shape == head.weight.shape == (16, config.hidden_size)
    assert (embedding.weight is head.weight) == config.tie_embeddings


def test_every_parameter_is_of_a_part(config):
    parts = spec_of(config).parts
    for name, _ in build_model(config, 12, seed=3).named_parameters():
        assert [part for part, word in parts.items() if word in name], name


def test_the_loss_in_chunks_is_the_loss(config, monkeypatch):
    monkeypatch.setattr(chunked_loss, "CHUNK", 5 * config.vocab_size)
    plain = build_model(config, 12, seed=3).train()
    fused = build_model(replace(config, fused_cross_entropy="chunked"), 12, seed=3).train()
    assert fused(input_ids=TOKENS, labels=TOKENS).logits is None
    loss, gradients = step(plain)
    other, others = step(fused)
    torch.testing.assert_close(loss, other, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients, others, rtol=1e-5, atol=1e-7)


def test_recomputed_activations_give_the_same_gradients(config):
    again = replace(config, activation_checkpointing=True)
    one, two = (step(build_model(model, 12, seed=3).train()) for model in (config, again))
    assert torch.equal(one[0], two[0])
    assert all(torch.equal(gradient, two[1][name]) for name, gradient in one[1].items())


def test_alphadecay_measures_each_matrix_of_a_layer(config):
    wide = replace(config, hidden_size=64, intermediate_size=96, num_layers=1)
    model = build_model(wide, 12, seed=3)
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
    names = list(decay.weight_decays)
    if config.architecture == "gpt2":  # q, k and v apart, though they lie in one matrix
        assert len(names) == 6 and len([name for name in names if "c_attn" in name]) == 3
    else:
        assert len(names) == 7
    assert not [name for name in names if "norm" in name or "wpe" in name or "lm_head" in name]


def test_gpt2_has_no_shared_keys_and_values():
    with pytest.raises(UserError, match="num_kv_heads is 2, and gpt2"):
        build_model(replace(MODELS["gpt2"], num_kv_heads=2), 12, seed=3)
