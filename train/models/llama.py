"""LLaMA: transformers' LlamaForCausalLM from config (arXiv 2302.13971)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from train.config import ModelConfig

if TYPE_CHECKING:
    from torch import nn
    from transformers import LlamaConfig, LlamaForCausalLM

    from train.models.spec import LossOfHead


class Llama:
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

        # Every configuration takes it, and none has a field for it.
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

    def vocabulary(self, model: ModelConfig) -> int:
        """Return the rows of the embedding."""
        return model.vocab_size

    def layers(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return every LlamaDecoderLayer."""
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer

        return [layer for layer in module.modules() if isinstance(layer, LlamaDecoderLayer)]

    def ends(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return embed_tokens and lm_head."""
        model: Any = module
        return [model.model.embed_tokens, model.lm_head]

    def restore_buffers(self, module: nn.Module) -> None:
        """Compute the rotary frequencies in float32 again: in bf16 far positions blur."""
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        for layer in module.modules():
            if isinstance(layer, LlamaRotaryEmbedding):
                fresh = LlamaRotaryEmbedding(layer.config)
                for name, buffer in fresh.named_buffers():
                    setattr(layer, name, buffer.to(getattr(layer, name).device))

    def attend_causally(self, module: nn.Module) -> None:
        """Register torch's attention as one that needs no mask."""
        from train.models.llama_attention import attend_causally

        attend_causally(module)

    def fuse_loss(self, module: nn.Module, loss_of_head: LossOfHead) -> None:
        """Have the head compute the loss."""
        from train.models.llama_loss import fuse_llama_loss

        fuse_llama_loss(module, loss_of_head)


SPEC = Llama()
