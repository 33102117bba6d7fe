"""Builds a model from its configuration, alike on any world size and ZeRO stage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from math import prod
from typing import Any

import torch
from torch import nn

from alphadecay.modules import whole_shape
from train.config import ModelConfig
from train.errors import UserError
from train.models import spec_of
from train.models.initialise import SkipRandomFills, initialise


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
    config = spec.config(model, sequence_length)  # its imports do not bear zero.Init's tensors
    with _partitioned_init(ds_config), SkipRandomFills():
        module = spec.bare(config)
    initialise(module, model.init_std, seed)
    finish_model(module, model)
    return module


def model_on_meta(model: ModelConfig, sequence_length: int) -> nn.Module:
    """Return the model's modules and shapes, with no memory behind the weights."""
    spec = spec_of(model)
    with torch.device("meta"):
        return spec.bare(spec.config(model, sequence_length))


def finish_model(module: nn.Module, model: ModelConfig) -> None:
    """Have a model with weights compute as the settings say."""
    if model.fused_cross_entropy:
        spec_of(model).fuse_loss(module)
    if model.activation_checkpointing:
        hugging_face: Any = module
        hugging_face.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False}
        )


def check_machine(model: ModelConfig) -> None:
    """Refuse what this machine cannot compute, before anything is built.

    Raises:
        UserError: names what is missing.
    """
    if model.attention == "flash_attention_2" and find_spec("flash_attn") is None:
        raise UserError(
            "model.attention is flash_attention_2, and flash-attn is not installed here; sdpa has "
            "the same kernels built in"
        )
    if model.compile and not _has_compiler():
        raise UserError(
            "model.compile needs a C++ compiler, and there is none on the path; install one (g++) "
            "or leave it false"
        )
    if model.fused_cross_entropy:
        from train.models.liger import check_fused_cross_entropy

        check_fused_cross_entropy()


def count_parameters(module: nn.Module) -> int:
    """Count the elements of all parameters, sharded or not."""
    return sum(prod(whole_shape(parameter)) for parameter in module.parameters())


def _has_compiler() -> bool:
    names = (os.environ.get("CXX", "c++"), "g++", "clang++")
    return any(shutil.which(name) for name in names)


def _partitioned_init(ds_config: Mapping[str, Any] | None) -> AbstractContextManager[Any]:
    zero = (ds_config or {}).get("zero_optimization", {})
    if zero.get("stage") != 3:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.Init(config_dict_or_path=dict(ds_config or {}))
