"""Qwen3: LLaMA's layers with a norm on each head's queries and keys (arXiv 2505.09388); with
num_kv_heads and tie_embeddings it is the form of Qwen's small models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from train.config import ModelConfig
from train.models.llama import Llama, gated_decoder

if TYPE_CHECKING:
    from transformers import Qwen3Config, Qwen3ForCausalLM


class Qwen3(Llama):
    """LLaMA's parts and FLOPs; norms do not count in either."""

    def config(self, model: ModelConfig, sequence_length: int) -> Qwen3Config:  # type: ignore[override]
        """Return transformers' description of the model."""
        from transformers import Qwen3Config

        options = gated_decoder(model, sequence_length)
        return Qwen3Config(**options, head_dim=model.hidden_size // model.num_heads)

    def bare(self, config: Qwen3Config) -> Qwen3ForCausalLM:  # type: ignore[override]
        """Build the model of `config` on the current default device."""
        from transformers import Qwen3ForCausalLM

        return Qwen3ForCausalLM(config)


SPEC = Qwen3()
