"""What the names of tensors tell of their layers, for a model of which no code is at hand."""

from __future__ import annotations

import re

# Layers whose weight is a table of rows, one a token or a position.
_EMBEDDING = re.compile(
    r"(?:.*_)?(?:emb|embed|embeds|embedding|embeddings|wte|wpe|shared)(?:_(?:tokens|positions|in|"
    r"layer|table|weights?|\d+))?|relative_attention_bias|tok_embeddings|codebook"
)
# transformers' layers that are linear and store their weight [inputs, outputs].
CONV1D_LABELS = frozenset({"c_attn", "c_proj", "c_fc", "q_attn"})
# Names of linear layers in the architectures that are known: LLaMA, Qwen, Mixtral, gpt-oss, GPT-2,
# GPT-NeoX, BERT, RoBERTa, T5, ViT, CLIP and their like; adapters of LoRA.
_LINEAR_PARTS = (
    r"\w*proj\w*",
    r"\w*linear\w*",
    r"dense\w*",
    r"(?:\w+_)?(?:fc|lin)\d?",
    r"w[1-3qkvoi]",
    r"W[1-3qkvoi]",
    r"wi_[01]|Wqkv|W_pack",
    r"[qkvo]|qkv|kqv|query|key|value|query_key_value|to_[qkv]|to_out|out",
    r"c_attn|c_fc|q_attn",
    r"router|gate|shared_expert_gate|pooler|transform|decoder|summary|seq_relationship",
    r"lm_head|head|heads|classifier|score|qa_outputs|embed_out",
    r"lora_[AB]",
)
_LINEAR = re.compile("|".join(_LINEAR_PARTS))
# Where a model's output head lies by its name, for heads without a name of their own.
HEADS = ("lm_head.decoder", "cls.predictions.decoder", "generator_lm_head", "embed_out")


def is_embedding(path: str) -> bool:
    """Return whether a layer is an embedding by the last part of its path."""
    return _EMBEDDING.fullmatch(path.rpartition(".")[2]) is not None


def is_known_linear(path: str) -> bool:
    """Return whether the last named part of a layer's path is one that linear layers have."""
    named = [part for part in path.split(".") if not part.isdigit()]
    return bool(named) and _LINEAR.fullmatch(named[-1]) is not None


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts names as a person would: layer 2 before layer 10."""
    return [(0, int(part), "") if _is_number(part) else (1, 0, part) for part in name.split(".")]


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdecimal() and len(part) < 19
