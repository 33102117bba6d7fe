"""Finds what is wrong with the settings of small proxies and regimes: ternary weights, a z-loss,
norms on queries and keys, modular arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from train.config import ModelConfig, TrainConfig
from train.config.wrong import Wrong


def regime_disagreements(config: TrainConfig) -> Iterator[Wrong]:
    """Yield each choice among them that cannot go with another."""
    yield from _layers(config.model)
    yield from _z_loss(config)
    yield from _arithmetic(config)


def _layers(model: ModelConfig) -> Iterator[Wrong]:
    """Yield what only some architectures have a place for."""
    if model.architecture in ("llama", "qwen3"):
        return
    fault = f", and model.architecture is {model.architecture}; take llama or qwen3 for it"
    if model.qk_norm:
        yield Wrong("model.qk_norm", "true", fault, ("model.architecture",))
    if model.quantize != "none":
        yield Wrong("model.quantize", model.quantize, fault, ("model.architecture",))


def _z_loss(config: TrainConfig) -> Iterator[Wrong]:
    kernel = config.model.fused_cross_entropy
    if not config.loss.z_loss:
        return
    value = f"{config.loss.z_loss:g}"
    if config.task != "language_modelling":
        fault = f", and the loss of task {config.task} has no place for it; leave it out"
        yield Wrong("loss.z_loss", value, fault, ("task",))
    elif kernel in (False, "liger"):
        told = "liger" if kernel else "false"
        fault = (
            f", which is computed in chunks, and model.fused_cross_entropy is {told}; leave that "
            "on auto"
        )
        yield Wrong("loss.z_loss", value, fault, ("model.fused_cross_entropy",))


def _arithmetic(config: TrainConfig) -> Iterator[Wrong]:
    modulus = config.arithmetic.modulus
    vocabulary = config.model.vocab_size
    if config.task != "modular_arithmetic":
        return
    if vocabulary <= modulus:
        fault = f"; it must be at least arithmetic.modulus + 1 = {modulus + 1}"
        yield Wrong("model.vocab_size", str(vocabulary), fault, ("arithmetic.modulus",))
    if config.decay.base == "auto":
        fault = ", a rule that counts the tokens of a text; give optim.weight_decay"
        yield Wrong("decay.base", "auto", fault, ("task",))
    factors = range(2, math.isqrt(modulus) + 1)
    if config.arithmetic.operation == "divide" and any(modulus % each == 0 for each in factors):
        fault = "; it must be a prime for arithmetic.operation divide"
        yield Wrong("arithmetic.modulus", str(modulus), fault, ("arithmetic.operation",))
