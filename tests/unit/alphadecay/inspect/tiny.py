"""Tiny models of every architecture, from transformers' configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_TEXT: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}


def _of(config: str, model: str, **settings: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import transformers

        torch.manual_seed(0)
        made: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**settings))
        return made

    return make


# architecture -> how one of it is made
TINY: dict[str, Callable[[], Any]] = {
    "llama": _of("LlamaConfig", "LlamaForCausalLM", **_TEXT, num_key_value_heads=2),
    "qwen3": _of("Qwen3Config", "Qwen3ForCausalLM", **_TEXT, num_key_value_heads=2, head_dim=8),
    "mixtral": _of(
        "MixtralConfig", "MixtralForCausalLM", **_TEXT, num_key_value_heads=2, num_local_experts=4
    ),
    "gpt_oss": _of(
        "GptOssConfig",
        "GptOssForCausalLM",
        **_TEXT,
        num_key_value_heads=2,
        num_local_experts=4,
        head_dim=8,
    ),
    "gpt2": _of(
        "GPT2Config",
        "GPT2LMHeadModel",
        vocab_size=90,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
    ),
    "gpt_neox": _of("GPTNeoXConfig", "GPTNeoXForCausalLM", **_TEXT),
    "phi3": _of("Phi3Config", "Phi3ForCausalLM", **_TEXT, num_key_value_heads=2, pad_token_id=0),
    "bert": _of("BertConfig", "BertForMaskedLM", **_TEXT),
    "roberta": _of("RobertaConfig", "RobertaForMaskedLM", **_TEXT),
    "t5": _of(
        "T5Config",
        "T5ForConditionalGeneration",
        vocab_size=90,
        d_model=32,
        d_ff=80,
        num_layers=1,
        num_heads=4,
        d_kv=8,
    ),
    "vit": _of("ViTConfig", "ViTForImageClassification", **_VISION),
    "resnet": _of(
        "ResNetConfig",
        "ResNetForImageClassification",
        embedding_size=16,
        hidden_sizes=[16, 32],
        depths=[1, 1],
    ),
}
