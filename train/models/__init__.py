"""Finds the architectures that can be trained: one file each, named as model.architecture."""

from __future__ import annotations

from importlib import import_module

from train.config import ModelConfig
from train.models.spec import ModelSpec

__all__ = ["ModelSpec", "spec_of"]


def spec_of(model: ModelConfig) -> ModelSpec:
    """Return the specification of the model's architecture; llama with qk_norm is qwen3."""
    name = "qwen3" if model.qk_norm else model.architecture
    spec: ModelSpec = import_module(f"train.models.{name}").SPEC
    return spec
