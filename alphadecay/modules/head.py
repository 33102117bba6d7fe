"""Find the ends of a model, its embeddings and its output head: they are no modules, whatever their
names and whatever wraps them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from alphadecay.modules.sites import Site
from alphadecay.modules.weight import whole_shape

_HEAD_NAMES = frozenset(
    {
        "lm_head",
        "lm_heads",
        "head",
        "heads",
        "embed_out",
        "unembed",
        "output_projection",
        "classifier",
        "score",
        "qa_outputs",
    }
)
_OF_SEVERAL = "classifier"  # transformers' RoBERTa has two linear layers in it
_GETTERS = ("get_output_embeddings", "get_classifier")  # transformers, timm


def embedding_parameters(model: nn.Module) -> set[int]:
    """Return the ids of the embeddings' parameters."""
    return {
        id(p)
        for layer in model.modules()
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag)
        for p in layer.parameters(recurse=False)
    }


def head_parameters(model: nn.Module, every_site: Sequence[Site]) -> set[int]:
    """Return the ids of the output head's parameters.

    It is what the model itself gives as its head, or what has a head's name. Where neither is
    there: the last linear weight, if it is as wide as the vocabulary or the classes.
    """
    found = {id(p) for getter in _GETTERS for p in _given(model, getter)}
    linear = [site for site in every_site if site.kind in ("linear", "conv1d")]
    found |= {id(site.parameter) for site in linear if _named_as_head(site)}
    if not found and linear and linear[-1].outputs in _widths(model):
        found = {id(linear[-1].parameter)}
    return found


def perhaps_head(model: nn.Module, taken: Sequence[Site]) -> str:
    """Return a sentence about a linear weight that has the look of a head, and was taken: none has
    more outputs, and it is the last, or as wide as the vocabulary; empty where there is none.
    """
    linear = [site for site in taken if site.kind in ("linear", "conv1d")]
    most = max((site.outputs for site in linear), default=0)
    widest = [site for site in linear if site.outputs == most]
    if widest and most in _widths(model) and most > min(whole_shape(widest[0].parameter)):
        reason = "as wide as the vocabulary"
    elif len(linear) > 1 and widest == linear[-1:]:
        reason = "the last linear weight and the widest"
    else:
        return ""
    return (
        f"{widest[0].name} {list(whole_shape(widest[0].parameter))} is {reason}: if it is the "
        f"output head, leave it out with exclude=[{widest[0].name!r}]"
    )


def _given(model: nn.Module, getter: str) -> list[nn.Parameter]:
    head = getattr(model, getter, lambda: None)()
    return list(head.parameters()) if isinstance(head, nn.Module) else []


def _named_as_head(site: Site) -> bool:
    parts = [part for part in site.layer_path.split(".") if not part.isdigit()]
    return bool(parts) and (parts[-1] in _HEAD_NAMES or _OF_SEVERAL in parts)


def _widths(model: nn.Module) -> set[int]:
    """Return how many outputs a head may have: tokens of the vocabulary, or classes."""
    embeddings = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    widths = [
        max(embeddings, default=0),
        getattr(getattr(model, "config", None), "vocab_size", 0),
        getattr(model, "num_classes", 0),
    ]
    return {width for width in widths if isinstance(width, int) and width > 0}
