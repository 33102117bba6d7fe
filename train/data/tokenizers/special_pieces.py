"""Takes the special pieces of a Hugging Face tokenizer out of reach of a text.

Their extraction from texts can be switched off, but the pieces of a Unigram, WordLevel or WordPiece
model match whatever is in its vocabulary: "</s>" in a text would become the end of it, where a
SentencePiece model spells it out.
"""

from __future__ import annotations

import json
from typing import Any

# Noncharacters of Unicode, which no text exchanged between programs holds.
_NOWHERE = "\ufdd0\ufdef\ufdd1\ufdee"


def special_ids(definition: str, eos_token: str) -> frozenset[int]:
    """Return the ids that no text may have: of special pieces and eos, but not of the unknown."""
    values = json.loads(definition)
    unknown = _unknown(values["model"])
    return frozenset(
        token["id"]
        for token in values["added_tokens"]
        if token["content"] in _special(values, eos_token) and token["content"] != unknown
    )


def out_of_reach(definition: str, eos_token: str) -> str:
    """Return the definition with special pieces under names that no text holds.

    All ids stay as they are.

    Args:
        definition: a tokenizer.json.
        eos_token: the piece that ends documents; special whether its entry says so or not.
    """
    values = json.loads(definition)
    special = _special(values, eos_token)
    model = values["model"]
    for token in values["added_tokens"]:
        token["content"] = _renamed(token["content"], special)
    if isinstance(model["vocab"], list):
        model["vocab"] = [[_renamed(piece, special), *rest] for piece, *rest in model["vocab"]]
    else:
        model["vocab"] = {_renamed(piece, special): id_ for piece, id_ in model["vocab"].items()}
    if model.get("unk_token") is not None:
        model["unk_token"] = _renamed(model["unk_token"], special)
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if not _makes(merge, special)]
    return json.dumps(values)


def _special(values: dict[str, Any], eos_token: str) -> frozenset[str]:
    marked = (token["content"] for token in values["added_tokens"] if token["special"])
    return frozenset((*marked, eos_token))


def _unknown(model: dict[str, Any]) -> str | None:
    """Return the piece that stands for what the vocabulary lacks."""
    if model.get("unk_id") is not None:
        piece: str = model["vocab"][model["unk_id"]][0]
        return piece
    name: str | None = model.get("unk_token")
    return name


def _renamed(piece: str, special: frozenset[str]) -> str:
    return _NOWHERE + piece if piece in special else piece


def _makes(merge: str | list[str], special: frozenset[str]) -> bool:
    """Return whether a merge of two pieces has to do with a special one."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return bool({left, right, left + right} & special)
