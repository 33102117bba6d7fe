"""Has a language model attend causally by torch's kernel: no mask is made, the host waits for
nothing.

transformers looks at the positions of every batch for packed documents, on the host, which then
waits for all that the device still has to do. Our rows are causal and nothing else: windows over
the borders of documents, or a document with its fill on the right. An attention that is registered
without a mask of its own is not asked for one.
"""

from __future__ import annotations

from typing import Any

from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

CAUSAL = "causal_sdpa"


def attend_causally(model: Any) -> None:
    """Change how attention knows that it is causal, and nothing else, where it is torch's own."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(CAUSAL, sdpa_attention_forward)
        model.config._attn_implementation = CAUSAL
