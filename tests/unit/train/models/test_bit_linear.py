"""Linear layers with ternary weights and 8-bit inputs, against the paper's formula in numpy and a
straight-through estimator written with detach.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from alphadecay import AdamW, AlphaDecay
from train.config import ModelConfig
from train.models.bit_linear import SCALES, BitLinear, eight_bits, quantise, ternary
from train.models.build import build_model

TINY = ModelConfig(
    vocab_size=67,
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=2,
    quantize="b158-mean",
)
TOKENS = torch.arange(24).view(2, 12)
STATISTIC = {"b158-mean": np.mean, "b158-median": np.median}


def drawn(*shape: int, dtype: torch.dtype = torch.double) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype)


def layer_of(kind: str, bias: bool = False, dtype: torch.dtype = torch.double) -> nn.Linear:
    layer = nn.Linear(17, 9, bias=bias, dtype=dtype)  # 153 weights: the median is one of them
    layer.weight.data = drawn(9, 17, dtype=dtype)
    quantise([layer], kind)
    assert isinstance(layer, BitLinear)
    return layer


def papers(inputs: np.ndarray, weight: np.ndarray, kind: str) -> np.ndarray:
    """The formulas of arXiv 2407.09527, a position at a time."""
    normal = (inputs - inputs.mean(-1, keepdims=True)) / np.sqrt(
        inputs.var(-1, keepdims=True) + 1e-5
    )
    input_scale = 128 / np.abs(normal).max(-1, keepdims=True)
    levels = np.clip(np.rint(normal * input_scale), -128, 127)
    weight_scale = 1 / STATISTIC[kind](np.abs(weight))
    ones = np.clip(np.rint(weight * weight_scale), -1, 1)
    return levels @ ones.T / (input_scale * weight_scale)


@pytest.mark.parametrize("kind", SCALES)
def test_it_is_the_papers_product(kind):
    layer = layer_of(kind, bias=True)
    inputs = drawn(2, 5, 17)
    expected = papers(inputs.numpy(), layer.weight.detach().numpy(), kind)
    found = layer(inputs).detach().numpy() - layer.bias.detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", SCALES)
def test_gradients_pass_the_rounding_to_the_latent_weight(kind):
    layer = layer_of(kind)
    inputs = drawn(2, 5, 17).requires_grad_()
    towards = drawn(2, 5, 9)
    (layer(inputs) * towards).sum().backward()

    weight = layer.weight.detach().clone().requires_grad_()
    again = inputs.detach().clone().requires_grad_()
    normal = nn.functional.layer_norm(again, (17,))
    levels, input_scales = eight_bits(normal.detach())
    ones, scale = ternary(weight.detach(), kind)
    rounded_inputs = normal + (levels * input_scales - normal).detach()
    rounded_weight = weight + (ones * scale - weight).detach()
    ((rounded_inputs @ rounded_weight.T) * towards).sum().backward()

    assert weight.grad is not None and again.grad is not None
    torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(inputs.grad, again.grad, rtol=1e-10, atol=1e-10)


def test_in_bf16_levels_and_ones_are_whole_numbers():
    levels, _ = eight_bits(drawn(4, 300, dtype=torch.bfloat16))
    assert levels.dtype == torch.bfloat16
    assert torch.equal(levels, levels.float().round().to(torch.bfloat16))
    assert levels.min() >= -128 and levels.max() <= 127
    ones, scale = ternary(drawn(30, 40, dtype=torch.bfloat16), "b158-median")
    assert set(ones.flatten().tolist()) == {-1.0, 0.0, 1.0}
    assert scale.dtype == torch.float32


def test_zeros_stay_zeros():
    layer = layer_of("b158-mean")
    layer.weight.data.zero_()
    assert torch.equal(layer(torch.zeros(3, 17, dtype=torch.double)), torch.zeros(3, 9).double())


def test_the_rounded_weights_are_not_kept_for_the_backward_pass():
    layer = layer_of("b158-mean")
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(drawn(2, 5, 17).requires_grad_())
    of_weights = [tensor for tensor in kept if tensor.shape == layer.weight.shape]
    assert [tensor.data_ptr() for tensor in of_weights] == [layer.weight.data_ptr()]


def test_a_model_has_its_decoder_layers_quantised_and_nothing_else():
    plain = build_model(replace(TINY, quantize="none"), 12, seed=3)
    model = build_model(TINY, 12, seed=3)
    states = zip(plain.state_dict().items(), model.state_dict().items(), strict=True)
    assert all(own[0] == other[0] and torch.equal(own[1], other[1]) for own, other in states)
    quantised = {name for name, each in model.named_modules() if isinstance(each, BitLinear)}
    linear = {name for name, each in plain.named_modules() if isinstance(each, nn.Linear)}
    assert quantised == linear - {"lm_head"}
    assert not torch.allclose(model(TOKENS).logits, plain(TOKENS).logits, atol=1e-2)


def test_no_position_sees_a_later_one():
    model = build_model(TINY, 12, seed=3).eval()
    later = TOKENS.clone()
    later[:, 7:] += 1
    with torch.no_grad():
        one, other = model(TOKENS).logits, model(later).logits
    torch.testing.assert_close(one[:, :7], other[:, :7], rtol=0, atol=1e-6)
    assert not torch.allclose(one[:, 7:], other[:, 7:], atol=1e-3)


def test_alphadecay_measures_and_decays_the_latent_weights():
    decays = []
    for kind in ("none", "b158-median"):
        model = build_model(replace(TINY, quantize=kind), 12, seed=3)
        optimizer = AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
        decays.append(AlphaDecay(model, optimizer))
    assert decays[1].alphas == decays[0].alphas
    assert decays[1].weight_decays == decays[0].weight_decays
    assert len(decays[1].alphas) == 14  # the head is left out


def test_recomputed_activations_give_the_same_gradients():
    models = [
        build_model(replace(TINY, activation_checkpointing=on), 12, seed=3).train()
        for on in (False, True)
    ]
    for model in models:
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
