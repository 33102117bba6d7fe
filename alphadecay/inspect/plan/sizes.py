"""The LLaMA models that a plan knows by name, as the keys of a Hugging Face config.json.

60M to 1B are the paper's (arXiv 2506.14562); 7B, 13B, 33B and 65B are LLaMA (arXiv 2302.13971,
table 2), 70B is LLaMA 2 (arXiv 2307.09288), 8B is Llama 3 (arXiv 2407.21783, table 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


def _llama(
    hidden: int, inner: int, layers: int, heads: int, keys: int = 0, vocabulary: int = 32000
) -> Mapping[str, Any]:
    return MappingProxyType(
        {
            "model_type": "llama",
            "vocab_size": vocabulary,
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": keys or heads,
            "tie_word_embeddings": False,
        }
    )


SIZES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "llama-60m": _llama(512, 1376, 8, 8),
        "llama-130m": _llama(768, 2048, 12, 12),
        "llama-350m": _llama(1024, 2736, 24, 16),
        "llama-1b": _llama(2048, 5461, 24, 32),
        "llama-7b": _llama(4096, 11008, 32, 32),
        "llama-8b": _llama(4096, 14336, 32, 32, keys=8, vocabulary=128256),
        "llama-13b": _llama(5120, 13824, 40, 40),
        "llama-33b": _llama(6656, 17920, 60, 52),
        "llama-65b": _llama(8192, 22016, 80, 64),
        "llama-70b": _llama(8192, 28672, 80, 64, keys=8),
    }
)
