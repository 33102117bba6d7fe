"""Builds a model from its configuration, alike on any world size and ZeRO stage."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from math import prod
from typing import Any

import torch
from torch import nn

from alphadecay.modules import whole_shape
from train.config import ModelConfig
from train.models import spec_of
from train.models.initialise import SkipRandomFills, initialise
from train.models.kernels import compiles_layers, fused_loss


def build_model(
    model: ModelConfig,
    sequence_length: int,
    seed: int,
    ds_config: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    z_loss: float = 0.0,
) -> nn.Module:
    """Build and initialise the model.

    Collective where `ds_config` asks for ZeRO-3: then each parameter is partitioned as it is made.

    Args:
        sequence_length: tokens in a row, the longest the model sees.
        seed: seed of the initialisation.
        ds_config: the resolved DeepSpeed configuration; None or a stage below 3 builds the model
            whole.
        dtype: of the weights of a whole model: drawn in float32, they are rounded one by one, so
            that there is never a model in float32 beside it.
        device: where the weights of a whole model are made; None is the CPU.
        z_loss: coefficient of the z-loss in its loss.
    """
    spec = spec_of(model)
    config = spec.config(model, sequence_length)  # its imports do not bear zero.Init's tensors
    with _partitioned_init(ds_config), SkipRandomFills():
        module = spec.bare(config)
    if _stage(ds_config) != 3:
        _make_room(module, dtype, device)
    fill_weights(module, model, seed)
    finish_model(module, model, z_loss)
    return module


def fill_weights(module: nn.Module, model: ModelConfig, seed: int) -> None:
    """Draw the weights that a run begins with, and take those that it has from elsewhere.

    Collective where weights are partitioned.
    """
    initialise(module, partial(spec_of(model).initial_std, model), seed)
    if model.pretrained:
        from train.models.pretrained import load_pretrained

        load_pretrained(module, model)


def model_on_meta(model: ModelConfig, sequence_length: int) -> nn.Module:
    """Return the model's modules and shapes, with no memory behind the weights."""
    spec = spec_of(model)
    with torch.device("meta"):
        return spec.bare(spec.config(model, sequence_length))


def finish_model(module: nn.Module, model: ModelConfig, z_loss: float = 0.0) -> None:
    """Have a model with weights compute as the settings say.

    Args:
        z_loss: coefficient of the z-loss in its loss.
    """
    spec = spec_of(model)
    spec.adapt(module, fused_loss(model, z_loss))
    quantise_model(module, model)
    if model.activation_checkpointing:
        hugging_face: Any = module
        hugging_face.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False}
        )
    if compiles_layers(model):
        from train.models.compiling import compile_layers

        compile_layers(spec.layers(module))


def quantise_model(module: nn.Module, model: ModelConfig) -> None:
    """Have the matrices of the decoder layers compute as model.quantize says."""
    if model.quantize != "none":
        from train.models.bit_linear import quantise

        quantise(spec_of(model).layers(module), model.quantize)


def count_parameters(module: nn.Module) -> int:
    """Count the elements of all parameters, sharded or not."""
    return sum(prod(whole_shape(parameter)) for parameter in module.parameters())


def _make_room(module: nn.Module, dtype: torch.dtype, device: torch.device | None) -> None:
    """Give each parameter memory of its final kind; what it had was not written to yet."""
    for parameter in module.parameters():
        parameter.data = torch.empty_like(parameter, dtype=dtype, device=device)


def _stage(ds_config: Mapping[str, Any] | None) -> int:
    return int((ds_config or {}).get("zero_optimization", {}).get("stage", 0))


def _partitioned_init(ds_config: Mapping[str, Any] | None) -> AbstractContextManager[Any]:
    if _stage(ds_config) != 3:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.Init(config_dict_or_path=dict(ds_config or {}))
