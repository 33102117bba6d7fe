"""Exports of quantised models: the folder holds the latent weights, and says of which model.

Plain transformers computes with them as they are, which is another model than the one trained. The
card has the lines that make it that one; this program's commands do so by themselves.
"""

from __future__ import annotations

from typing import Any

KEY = "latent_weights"  # of config.json; its value is model.quantize


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
