"""Choices of how the model is computed: what it is stays the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from train.config import HOW_IT_COMPUTES, ModelConfig
from train.models import chunked_loss
from train.models.build import build_model

TINY = ModelConfig(vocab_size=67, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=2)
TOKENS = torch.arange(24).view(2, 12)


def step(model: torch.nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of one batch."""
    loss = model(input_ids=TOKENS, labels=TOKENS).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def test_recomputed_activations_give_the_same_gradients():
    loss, gradients = step(build_model(TINY, 12, seed=3).train())
    again, recomputed = step(
        build_model(replace(TINY, activation_checkpointing=True), 12, seed=3).train()
    )
    assert torch.equal(loss, again) and gradients.keys() == recomputed.keys()
    assert all(torch.equal(gradient, recomputed[name]) for name, gradient in gradients.items())


def test_recomputing_keeps_less():
    def kept(model: torch.nn.Module) -> int:
        sizes = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(input_ids=TOKENS, labels=TOKENS)
        return sum(sizes.values())

    models = [
        build_model(replace(TINY, num_layers=6, activation_checkpointing=on), 12, seed=3).train()
        for on in (False, True)
    ]
    assert kept(models[1]) < 0.5 * kept(models[0])


def test_attention_kernels_agree():
    loss, gradients = step(build_model(TINY, 12, seed=3).train())
    other, others = step(build_model(replace(TINY, attention="eager"), 12, seed=3).train())
    torch.testing.assert_close(loss, other, rtol=1e-6, atol=0)  # a softmax summed in another order
    torch.testing.assert_close(gradients, others, rtol=1e-4, atol=1e-7)


def test_how_it_computes_are_fields():
    assert set(HOW_IT_COMPUTES) < set(ModelConfig.__dataclass_fields__)


def test_the_loss_in_chunks_is_the_loss(monkeypatch):
    monkeypatch.setattr(chunked_loss, "CHUNK", 5 * TINY.vocab_size)
    for tied in (False, True):
        config = replace(TINY, tie_embeddings=tied)
        plain = build_model(config, 12, seed=3).train()
        fused = build_model(replace(config, fused_cross_entropy="chunked"), 12, seed=3).train()
        assert fused(input_ids=TOKENS, labels=TOKENS).logits is None
        assert torch.equal(fused(input_ids=TOKENS).logits, plain(input_ids=TOKENS).logits)
        loss, gradients = step(plain)
        other, others = step(fused)
        torch.testing.assert_close(loss, other, rtol=1e-6, atol=0)  # summed in chunks
        torch.testing.assert_close(gradients, others, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_z_loss_is_added_in_training_alone(architecture):
    config = replace(TINY, architecture=architecture)
    plain = build_model(config, 12, seed=3).train()
    model = build_model(config, 12, seed=3, z_loss=0.5).train()
    logits = plain(input_ids=TOKENS).logits
    log_z = logits[:, :-1].logsumexp(-1)  # the last position predicts nothing
    expected = plain(input_ids=TOKENS, labels=TOKENS).loss + 0.5 * log_z.square().mean()
    torch.testing.assert_close(model(input_ids=TOKENS, labels=TOKENS).loss, expected)
    assert torch.equal(model(input_ids=TOKENS).logits, logits)


def test_llama_with_qk_norm_is_qwen3():
    model = build_model(replace(TINY, qk_norm=True), 12, seed=3)
    qwen3 = build_model(replace(TINY, architecture="qwen3"), 12, seed=3)
    assert type(model) is type(qwen3)
    assert torch.equal(model(input_ids=TOKENS).logits, qwen3(input_ids=TOKENS).logits)
    assert sum("q_norm" in name for name, _ in model.named_parameters()) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kernel", ["liger", "chunked"])
def test_the_fused_loss_is_the_loss_on_a_gpu(kernel):
    if kernel == "liger":
        pytest.importorskip("liger_kernel")
    models = [
        build_model(replace(TINY, fused_cross_entropy=wanted, compile=False), 12, seed=3)
        .cuda()
        .train()
        for wanted in (False, kernel)
    ]
    losses = [model(input_ids=TOKENS.cuda(), labels=TOKENS.cuda()).loss for model in models]
    assert models[1](input_ids=TOKENS.cuda(), labels=TOKENS.cuda()).logits is None
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=0)  # summed in chunks
    for loss in losses:
        loss.backward()
    for (name, plain), fused in zip(
        models[0].named_parameters(), models[1].parameters(), strict=True
    ):
        torch.testing.assert_close(plain.grad, fused.grad, rtol=1e-2, atol=1e-6, msg=name)
