"""LLaMA: transformers' LlamaForCausalLM from config (arXiv 2302.13971)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from train.config import ModelConfig
from train.models.causal_lm import CausalLanguageModel

if TYPE_CHECKING:
    from transformers import LlamaConfig, LlamaForCausalLM


class Llama(CausalLanguageModel):
    """The LLaMA of the paper's tables."""

    parts: Mapping[str, str] = MappingProxyType(
        {
            "embedding": "embed_tokens",
            "attention": "self_attn",
            "MLP": "mlp",
            "head": "lm_head",
            "norms": "norm",
        }
    )

    def config(self, model: ModelConfig, sequence_length: int) -> LlamaConfig:
        """Return transformers' description of the model."""
        from transformers import LlamaConfig

        return LlamaConfig(**gated_decoder(model, sequence_length))

    def bare(self, config: LlamaConfig) -> LlamaForCausalLM:
        """Build the model of `config` on the current default device."""
        from transformers import LlamaForCausalLM

        return LlamaForCausalLM(config)

    def flops_per_token(self, model: ModelConfig, sequence_length: int) -> float:
        """Return three times the forward's matmuls: one forward and two in the backward pass."""
        width = model.hidden_size
        keys = (model.num_kv_heads or model.num_heads) * (width // model.num_heads)
        projections = 2 * width * width + 2 * width * keys + 3 * width * model.intermediate_size
        weights = model.num_layers * projections + width * model.vocab_size
        # Scores, and their product with the values.
        attention = model.num_layers * 2 * width * sequence_length
        return 3.0 * 2.0 * (weights + attention)


def gated_decoder(model: ModelConfig, sequence_length: int) -> dict[str, Any]:
    """Return the settings that configurations of LLaMA's kind share."""
    return {
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads or model.num_heads,
        "max_position_embeddings": sequence_length,
        "rms_norm_eps": model.rms_norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_theta},
        "initializer_range": model.init_std,
        "tie_word_embeddings": model.tie_embeddings,
        "use_cache": False,
        # Every configuration takes it, and none has a field for it.
        "attn_implementation": model.attention,
    }


SPEC = Llama()
