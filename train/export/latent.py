"""Exports of quantised models: the folder holds the latent weights, and says of which model.

Plain transformers computes with them as they are, which is another model than the one trained. The
card has the lines that make it that one; this program's commands do so by themselves.
"""

from __future__ import annotations

from typing import Any

KEY = "latent_weights"  # of config.json; its value is model.quantize
_IMPORTS = "from functools import partial\n\nimport torch\n"
_LOADED = "model = AutoModelForCausalLM.from_pretrained(folder)\n"
_LINES = """

def ternary_linear(layer, x):
    x = torch.nn.functional.layer_norm(x, (layer.in_features,))
    x_scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-5) / 128
    scale = layer.weight.abs().STATISTIC().clamp(min=1e-5)
    ones = (layer.weight / scale).round().clamp(-1, 1)
    return (x / x_scale).round().clamp(-128, 127) @ ones.T * (x_scale * scale)


for layer in model.model.layers.modules():
    if isinstance(layer, torch.nn.Linear):
        layer.forward = partial(ternary_linear, layer)

"""


def mark_latent(config: Any, quantize: str) -> None:
    """Note in transformers' configuration what the weights are latent weights of."""
    if quantize != "none":
        setattr(config, KEY, quantize)


def compute_as_trained(model: Any) -> None:
    """Have a model of transformers with latent weights quantise them, as in training."""
    kind = getattr(model.config, KEY, "")
    if kind:
        from train.models.bit_linear import quantise

        quantise(model.base_model.layers, kind)


def statistic_of(quantize: str) -> str:
    """Return mean or median; empty where nothing is quantised."""
    return "" if quantize == "none" else quantize.removeprefix("b158-")


def use_as_trained(use: str, quantize: str) -> str:
    """Return a card's lines with those in between that make a loaded model the one trained.

    Args:
        use: a program that loads a language model.
        quantize: model.quantize.
    """
    statistic = statistic_of(quantize)
    if not statistic:
        return use
    before, after = use.split(_LOADED)
    return _IMPORTS + before + _LOADED + _LINES.replace("STATISTIC", statistic) + after
