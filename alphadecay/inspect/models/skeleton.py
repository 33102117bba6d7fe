"""Builds modules without values from the names and shapes of stored tensors, for the library to
choose weights in as in a model that is trained.

A layer's kind is told by the axes of its weight and by names; GPT-2's, which stores its weights
[inputs, outputs], by its biases too. The configuration tells heads, the vocabulary and families
whose layout no shape shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from alphadecay.inspect.models.names import CONV1D_LABELS, HEADS, is_embedding, natural
from alphadecay.inspect.sources import StoredTensor

MOST_PARTS = 64  # of a name, between its dots: a tree of modules is walked by recursion
_CONVOLUTIONS: Mapping[int, type[nn.Module]] = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
_ATTENTION = frozenset({"in_proj_weight", "q_proj_weight"})
# Families whose experts are stored [E, inputs, outputs], and those whose gate and up alternate.
_TRANSPOSED_EXPERTS = ("gpt_oss", "llama4")
_ALTERNATING_EXPERTS = ("gpt_oss",)
_EXPERT_BIAS = "gate_up_proj_bias"
# What chooses among experts is no linear layer in transformers, but for a family's.
_ROUTERS = frozenset({"gate", "router"})
_LINEAR_ROUTERS = ("llama4",)
# The part of a configuration -> the modules that it is about.
_PARTS = {
    "text_config": ("language_model", "text_model"),
    "vision_config": ("vision_tower", "vision_model", "visual"),
}


class _Root(nn.Module):
    """This is the model."""

    def get_output_embeddings(self) -> nn.Module | None:
        """Return the head, where it lies under a name of its own, or is the only linear layer as
        wide as the vocabulary: names that are sorted do not tell which layer is the last.
        """
        layers = dict(self.named_modules())
        for path in HEADS:
            if path in layers:
                return layers[path]
        tables = [layer for layer in layers.values() if isinstance(layer, nn.Embedding)]
        width = max((table.num_embeddings for table in tables), default=0)
        linear = [layer for layer in layers.values() if isinstance(layer, nn.Linear)]
        wide = [layer for layer in linear if layer.weight.shape[0] == width]
        return wide[0] if len(wide) == 1 else None


class _Embedding(nn.Embedding):
    """This is an embedding of which only the weight's shape is known."""

    def __init__(self, shape: Sequence[int]) -> None:
        nn.Module.__init__(self)
        self.num_embeddings = shape[0]


class Conv1D(nn.Module):
    """This is what transformers calls so: a linear layer whose weight is [inputs, outputs]."""


def build_skeleton(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> nn.Module:
    """Return modules that hold the tensors by their names, each on the meta device; tied ones are
    one parameter.

    Args:
        tensors: floating ones.
        config: of the model, as config.json has it.
    """
    groups: dict[str, dict[str, StoredTensor]] = {}
    for name in sorted(tensors, key=natural):
        path, _, leaf = name.rpartition(".")
        groups.setdefault(path, {})[leaf] = tensors[name]
    special = _special_layers(groups, config)
    layers: dict[str, nn.Module] = {"": _Root()}
    parameters: dict[str, nn.Parameter] = {}

    def make(path: str) -> nn.Module:
        held = groups.get(path)
        return nn.Module() if held is None else _make(path, held, special, config)

    for path, held in groups.items():
        layer = _place(layers, path, make)
        for leaf, tensor in held.items():
            storage = tensor.tied_to or tensor.name
            if storage not in parameters:
                empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
                parameters[storage] = nn.Parameter(empty)
            layer._parameters[leaf] = parameters[storage]
    _configure(layers, config)
    return layers[""]


def _make(
    path: str,
    held: Mapping[str, StoredTensor],
    special: Mapping[str, type[nn.Module]],
    config: Mapping[str, Any],
) -> nn.Module:
    """Return a layer that holds tensors of these names and shapes.

    Args: special: path of a layer -> its kind, where its own tensors do not tell it.
    """
    if path in special:
        return special[path]()
    if not _ATTENTION.isdisjoint(held):
        return _empty(nn.MultiheadAttention)
    weight = held.get("weight")
    dims = len(weight.shape) if weight is not None else 0
    if weight is not None and dims == 2:
        return _Embedding(weight.shape) if is_embedding(path) else _empty(nn.Linear)
    if dims in _CONVOLUTIONS:
        return _empty(_CONVOLUTIONS[dims])
    layer: Any = nn.Module()
    family = str(config.get("model_type", ""))
    # without a configuration gpt-oss's are known by their biases, which no other's have
    alone = not family and _EXPERT_BIAS in held
    if alone or family.startswith(_TRANSPOSED_EXPERTS):
        layer.is_transposed = True
    if alone or family.startswith(_ALTERNATING_EXPERTS):
        layer.is_concatenated = False
    return layer


def _empty(kind: type[nn.Module]) -> nn.Module:
    """Return an instance of a kind of layer that holds nothing yet."""
    layer = kind.__new__(kind)
    nn.Module.__init__(layer)
    return layer


def _special_layers(
    groups: Mapping[str, Mapping[str, StoredTensor]], config: Mapping[str, Any]
) -> dict[str, type[nn.Module]]:
    special: dict[str, type[nn.Module]] = dict.fromkeys(_conv1d_paths(groups), Conv1D)
    if str(config.get("model_type", "")).startswith(_LINEAR_ROUTERS):
        return special
    beside = {path.partition(".experts")[0] for path in groups if ".experts" in path}
    for path in groups:
        parent, _, leaf = path.rpartition(".")
        if leaf in _ROUTERS and parent in beside:
            special[path] = nn.Module
    return special


def _conv1d_paths(groups: Mapping[str, Mapping[str, StoredTensor]]) -> Iterator[str]:
    """Yield the layers of GPT-2's kind: a bias is as long as the second axis of its weight."""
    found = []
    proven = False
    for path, held in groups.items():
        weight = held.get("weight")
        bias = held.get("bias")
        if path.rpartition(".")[2] not in CONV1D_LABELS or weight is None or bias is None:
            continue
        if len(weight.shape) == 2 and weight.shape[1:] == bias.shape:
            found.append(path)
            proven = proven or weight.shape[0] != weight.shape[1]
    # where every one of them is square, none is fused, and either reading gives one spectrum
    yield from found if proven else ()


def _place(layers: dict[str, nn.Module], path: str, make: Callable[[str], nn.Module]) -> nn.Module:
    """Return the layer of a path, put into the tree with its parents where it is not there."""
    if path in layers:
        return layers[path]
    parent_path, _, leaf = path.rpartition(".")
    parent = _place(layers, parent_path, make)
    layers[path] = make(path)
    parent._modules[leaf] = layers[path]
    return layers[path]


def _configure(layers: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Give the model its configuration, and its parts theirs."""
    if config:
        layers[""].config = SimpleNamespace(**{str(key): value for key, value in config.items()})
    for key, names in _PARTS.items():
        part = config.get(key)
        if not isinstance(part, Mapping):
            continue
        for path, layer in layers.items():
            if path.rpartition(".")[2] in names:
                layer.config = SimpleNamespace(**{str(name): v for name, v in part.items()})
    for layer in layers.values():
        _tell_linear_attention(layer, config)


def _tell_linear_attention(layer: Any, config: Mapping[str, Any]) -> None:
    """Give Qwen's gated delta nets the widths that their layers have as attributes."""
    if not {"in_proj_qkv", "in_proj_qkvz"} & set(layer._modules):
        return
    keys = ("linear_num_key_heads", "linear_key_head_dim")
    values = ("linear_num_value_heads", "linear_value_head_dim")
    widths = [config.get(key) for key in (*keys, *values)]
    heads, key_width, value_heads, value_width = (w if isinstance(w, int) else 0 for w in widths)
    if heads and key_width and value_heads and value_width:
        layer.num_k_heads = heads
        layer.key_dim = heads * key_width
        layer.value_dim = value_heads * value_width
