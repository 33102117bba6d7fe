"""Reads layer and type from a weight's name, for tables and pictures."""

from __future__ import annotations

import re

NO_LAYER = -1


def layer_and_type(name: str) -> tuple[int, str]:
    """Split a weight's name into its layer and its type; a name without a number has layer -1.

    >>> layer_and_type("transformer.h.11.attn.c_attn.weight")
    (11, 'c_attn')
    >>> layer_and_type("lm_head.weight")
    (-1, 'lm_head')
    """
    parts = [part for part in name.split(".") if part]
    split = re.search(r"weight(\W+.*)$", name)  # a split of a fused weight says so behind its name
    if parts and parts[-1].startswith("weight"):
        parts = parts[:-1]
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    layer = int(parts[numbers[0]]) if numbers else NO_LAYER
    # Below a second number (an expert, a block inside a layer) the last part alone would name
    # several modules alike.
    start = numbers[1] - 1 if len(numbers) > 1 else len(parts) - 1
    kind = ".".join(re.sub(r"_proj$", "", part) for part in parts[start:]) or name
    return layer, kind + (split[1] if split else "")
