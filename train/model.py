"""The LLaMA: transformers' LlamaForCausalLM from config, initialised alike on any world size and
ZeRO stage.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from math import prod
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from alphadecay.modules import whole_shape
from train.config import ModelConfig
from train.errors import UserError


def llama_config(model: ModelConfig, sequence_length: int) -> LlamaConfig:
    """transformers' description of the model."""
    # taken by every configuration, a field of none
    options: dict[str, Any] = {"attn_implementation": model.attention}
    return LlamaConfig(
        vocab_size=model.vocab_size,
        hidden_size=model.hidden_size,
        intermediate_size=model.intermediate_size,
        num_hidden_layers=model.num_layers,
        num_attention_heads=model.num_heads,
        num_key_value_heads=model.num_kv_heads or model.num_heads,
        max_position_embeddings=sequence_length,
        rms_norm_eps=model.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": model.rope_theta},
        initializer_range=model.init_std,
        tie_word_embeddings=model.tie_embeddings,
        use_cache=False,
        **options,
    )


def build_model(
    model: ModelConfig, sequence_length: int, seed: int, ds_config: Mapping[str, Any] | None = None
) -> LlamaForCausalLM:
    """The initialised model.

    Collective where `ds_config` asks for ZeRO-3: then each parameter is partitioned as it is made.

    Args:
        sequence_length: tokens in a row, the longest the model sees.
        seed: seed of the initialisation.
        ds_config: the resolved DeepSpeed configuration; None or a stage below 3 builds the model
            whole.
    """
    config = llama_config(model, sequence_length)
    with _zero_init(ds_config):
        llama = LlamaForCausalLM(config)
    _initialise(llama, model.init_std, seed)
    if model.fused_cross_entropy:
        from train.liger import fuse_cross_entropy

        fuse_cross_entropy(llama)
    if model.activation_checkpointing:
        llama.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return llama


def check_machine(model: ModelConfig) -> None:
    """Refuses what this machine cannot compute, before anything is built.

    Raises:
        UserError: names what is missing.
    """
    if model.attention == "flash_attention_2" and find_spec("flash_attn") is None:
        raise UserError(
            "model.attention is flash_attention_2, and flash-attn is not installed here; sdpa has "
            "the same kernels built in"
        )
    if model.compile and not any(
        shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")
    ):
        raise UserError(
            "model.compile needs a C++ compiler, and there is none on the path; install one (g++) "
            "or leave it false"
        )
    if model.fused_cross_entropy:
        from train.liger import check_fused_cross_entropy

        check_fused_cross_entropy()


def restore_rotary(model: nn.Module) -> None:
    """Rotary frequencies in float32 again: DeepSpeed casts buffers to bf16, which blurs far
    positions.
    """
    for layer in model.modules():
        if isinstance(layer, LlamaRotaryEmbedding):
            fresh = LlamaRotaryEmbedding(layer.config)
            for name, buffer in fresh.named_buffers():
                setattr(layer, name, buffer.to(getattr(layer, name).device))


def count_parameters(model: nn.Module) -> int:
    """Elements of all parameters, sharded or not."""
    return sum(prod(whole_shape(parameter)) for parameter in model.parameters())


def _is_zero3(ds_config: Mapping[str, Any] | None) -> bool:
    return bool(ds_config) and (ds_config or {}).get("zero_optimization", {}).get("stage") == 3


def _zero_init(ds_config: Mapping[str, Any] | None) -> AbstractContextManager[Any]:
    if not _is_zero3(ds_config):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.Init(config_dict_or_path=dict(ds_config or {}))


def _initialise(model: nn.Module, std: float, seed: int) -> None:
    """Normal weights, gains of one; each parameter from a generator of its own, so that sharding
    changes nothing.

    Under zero.Init transformers' own initialisation sees empty parameters and leaves torch's
    defaults. Collective there.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            with _gathered(parameter) as writes:
                if writes:
                    _fill(parameter, name, std, seed)


class _gathered:
    """The parameter whole on rank 0, written back to its owners at the end; True on ranks that are
    to write.
    """

    def __init__(self, parameter: nn.Parameter) -> None:
        self._partitioned = hasattr(parameter, "ds_tensor")
        self._context: AbstractContextManager[Any] = nullcontext()
        if self._partitioned:
            import deepspeed

            self._context = deepspeed.zero.GatheredParameters([parameter], modifier_rank=0)

    def __enter__(self) -> bool:
        self._context.__enter__()
        return not self._partitioned or torch.distributed.get_rank() == 0

    def __exit__(self, *exc: Any) -> None:
        self._context.__exit__(*exc)


def _fill(parameter: nn.Parameter, name: str, std: float, seed: int) -> None:
    if parameter.dim() < 2:
        parameter.fill_(1.0)
        return
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
