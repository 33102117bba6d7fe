"""GPT-2: transformers' GPT2LMHeadModel from config (Radford et al. 2019), without dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from train.config import ModelConfig
from train.errors import UserError
from train.models.causal_lm import CausalLanguageModel

if TYPE_CHECKING:
    from torch import nn
    from transformers import GPT2Config, GPT2LMHeadModel


class Gpt2(CausalLanguageModel):
    """GPT-2, whose attention weights are one fused matrix a layer, stored [in, out]."""

    parts: Mapping[str, str] = MappingProxyType(
        {
            "embedding": "wte",
            "positions": "wpe",
            "attention": ".attn.",
            "MLP": ".mlp.",
            "head": "lm_head",
            "norms": "ln_",
        }
    )

    def config(self, model: ModelConfig, sequence_length: int) -> GPT2Config:
        """Return transformers' description of the model.

        Raises:
            UserError: fewer key/value heads than heads, which GPT-2 has no place for.
        """
        from transformers import GPT2Config

        if model.num_kv_heads not in (0, model.num_heads):
            raise UserError(
                f"model.num_kv_heads is {model.num_kv_heads}, and gpt2 has as many as heads; leave "
                "it 0, or take --model.architecture llama"
            )
        options: dict[str, Any] = {
            "attn_implementation": model.attention,
            "tie_word_embeddings": model.tie_embeddings,
            "loss_type": "ForCausalLM",  # not to be told from the name of the class
        }
        return GPT2Config(
            vocab_size=model.vocab_size,
            n_embd=model.hidden_size,
            n_inner=model.intermediate_size,
            n_layer=model.num_layers,
            n_head=model.num_heads,
            n_positions=sequence_length,
            layer_norm_epsilon=model.rms_norm_eps,
            initializer_range=model.init_std,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            use_cache=False,
            # The default ids of GPT-2's own tokenizer lie outside a smaller vocabulary.
            bos_token_id=None,
            eos_token_id=None,
            **options,
        )

    def bare(self, config: GPT2Config) -> GPT2LMHeadModel:
        """Build the model of `config` on the current default device."""
        from transformers import GPT2LMHeadModel

        return GPT2LMHeadModel(config)

    def flops_per_token(self, model: ModelConfig, sequence_length: int) -> float:
        """Return three times the forward's matmuls; positions and biases are added, not counted."""
        width = model.hidden_size
        projections = 4 * width * width + 2 * width * model.intermediate_size
        weights = model.num_layers * projections + width * model.vocab_size
        attention = model.num_layers * 2 * width * sequence_length
        return 3.0 * 2.0 * (weights + attention)

    def initial_std(self, model: ModelConfig, name: str) -> float:
        """Return less for what is added to the residual stream: its sum over all layers grows."""
        if name.endswith("c_proj.weight"):
            return model.init_std / math.sqrt(2 * model.num_layers)
        return model.init_std

    def layers(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return every block."""
        model: Any = module
        return list(model.transformer.h)


SPEC = Gpt2()
