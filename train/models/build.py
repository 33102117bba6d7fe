"""Builds a model from its configuration, alike on any world size and ZeRO stage."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

from torch import nn

from alphadecay.modules import whole_shape
from train.config import ModelConfig
from train.models import spec_of
from train.models.initialise import initialise
from train.models.kernels import compiles_layers, fused_loss


def build_model(
    model: ModelConfig, sequence_length: int, seed: int, ds_config: Mapping[str, Any] | None = None
) -> nn.Module:
    """Build and initialise the model.

    Collective where `ds_config` asks for ZeRO-3: then each parameter is partitioned as it is made.

    Args:
        sequence_length: tokens in a row, the longest the model sees.
        seed: seed of the initialisation.
        ds_config: the resolved DeepSpeed configuration; None or a stage below 3 builds the model
            whole.
    """
    spec = spec_of(model)
    config = spec.config(model, sequence_length)
    with _partitioned_init(ds_config):
        module: Any = spec.bare(config)
    initialise(module, model.init_std, seed)
    loss_of_head = fused_loss(model)
    if loss_of_head is not None:
        spec.fuse_loss(module, loss_of_head)
    if model.activation_checkpointing:
        module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if compiles_layers(model):
        from train.models.compiling import compile_layers

        compile_layers(spec.layers(module))
    return module  # type: ignore[no-any-return]


def count_parameters(module: nn.Module) -> int:
    """Count the elements of all parameters, sharded or not."""
    return sum(prod(whole_shape(parameter)) for parameter in module.parameters())


def _partitioned_init(ds_config: Mapping[str, Any] | None) -> AbstractContextManager[Any]:
    zero = (ds_config or {}).get("zero_optimization", {})
    if zero.get("stage") != 3:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.Init(config_dict_or_path=dict(ds_config or {}))
