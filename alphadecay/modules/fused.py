"""Fused weights divide into matrices: how is known from the model's configuration or from shapes,
or refused with the `splits=` to write.

Shapes: a linear weight has O outputs and I inputs. The outputs of a fused one belong to several
    matrices, one behind the other, or alternating head by head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from alphadecay.modules.sites import Site
from alphadecay.modules.weight import whole_shape

REPEAT = "repeat"  # the key of a split that says how often its parts come


@dataclass(frozen=True)
class Layout:
    """This says which matrices the outputs of a weight belong to.

    Args:
        parts: name -> outputs of each part in one period, in order.
        repeat: periods; 1 where each part is one block.
    """

    parts: Mapping[str, int]
    repeat: int = 1

    @property
    def outputs(self) -> int:
        """Count the outputs of all parts together."""
        return self.repeat * sum(self.parts.values())


_HALVES = frozenset({"gate_up_proj", "gate_up"})
# Names that plain layers have too: fused where the projection behind takes half of the outputs.
_HALVES_BY_NEIGHBOUR = {"Wi": "Wo", "wi": "wo", "fc1": "fc2", "w12": "w3"}
_QKV = frozenset({"c_attn", "W_pack", "query_key_value", "in_proj", "in_proj_weight"})
# Names for which there are two layouts in use, and only the model's own kind tells which.
_AMBIGUOUS = frozenset({"query_key_value"})
# Names that other layers than attention have too.
_SHARED_NAMES = frozenset({"in_proj"})
_PER_HEAD = frozenset({"gpt_neox", "gpt_neox_japanese", "bloom", "persimmon", "deberta", "minimax"})
_IN_BLOCKS = frozenset({"chatglm"})
_OUTPUT_NAMES = ("o_proj", "out_proj", "c_proj", "proj", "dense", "wo", "Wo", "to_out", "out")
_HEADS = ("num_attention_heads", "num_heads", "n_head", "n_heads", "nhead")
_KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_kv_head")
_HEAD_SIZES = ("head_dim", "head_size", "dim_head")


def fused_layout(site: Site, inputs: int) -> Layout | None:
    """Return how the outputs of a linear weight divide; None where it is one matrix.

    Raises:
        ValueError: it is fused by its name, and how is not known; the message has the `splits=`.
    """
    if site.label in _HALVES or _takes_half(site):
        half, odd = divmod(site.outputs, 2)
        return None if odd else Layout({"gate": half, "up": half})
    if site.label not in _QKV and "qkv" not in site.label.lower():
        return None
    layout = _by_model_type(site, inputs) or _by_linear_attention(site)
    if layout is None and site.label not in _AMBIGUOUS:
        layout = _by_heads(site, inputs) or _by_shape(site, inputs)
    if layout is not None and layout.outputs == site.outputs:
        return layout
    if site.label in _SHARED_NAMES:
        return None
    raise ValueError(_unknown(site, inputs))


def perhaps_fused(site: Site) -> str:
    """Return a sentence about a weight that is taken as one matrix by a name that several layers
    have, such as Mamba's in_proj; empty for any other.
    """
    inputs = whole_shape(site.parameter)[-1]
    if site.label not in _SHARED_NAMES or site.outputs <= inputs or fused_layout(site, inputs):
        return ""
    return (
        f"{site.name} [{site.outputs}, {inputs}] is taken as one matrix; if it holds several, "
        f"write splits={{'*{site.label}.weight': {{part: outputs, ...}}}}"
    )


def given_layout(name: str, outputs: int, sizes: Mapping[str, int]) -> Layout | None:
    """Return the layout that the user's split says; None where it is empty: one matrix.

    Raises:
        ValueError: it does not add up to the weight's outputs.
    """
    if not sizes:
        return None
    parts = {part: size for part, size in sizes.items() if part != REPEAT}
    layout = Layout(parts, sizes.get(REPEAT, 1))
    if layout.outputs != outputs or min(layout.repeat, *parts.values()) < 1:
        raise ValueError(
            f"split of {name}: {dict(sizes)} adds up to {layout.outputs}, the weight has {outputs} "
            "outputs"
        )
    return layout


def _by_model_type(site: Site, inputs: int) -> Layout | None:
    """Return the layout of families that transformers has, where a name alone would mislead."""
    config = site.config
    family = getattr(config, "model_type", "")
    heads = _first(config, _HEADS) or 1
    if family == "falcon":
        return _falcon(config, site.outputs, heads)
    if family == "codegen":  # for four accelerators, whatever there are
        return Layout(dict.fromkeys("qvk", site.outputs // 12), 4)
    if family in _PER_HEAD or (family == "gpt_bigcode" and not config.multi_query):
        return Layout(dict.fromkeys("qkv", site.outputs // (3 * heads)), heads)
    if family in _IN_BLOCKS:
        return _blocks(inputs, site.outputs)
    return None


def _falcon(config: Any, outputs: int, heads: int) -> Layout | None:
    size = config.hidden_size // heads
    if config.new_decoder_architecture:
        groups = config.num_kv_heads
        return Layout({"q": heads // groups * size, "k": size, "v": size}, groups)
    if config.multi_query:
        return _blocks(heads * size, outputs)
    return Layout(dict.fromkeys("qkv", outputs // (3 * heads)), heads)


def _by_linear_attention(site: Site) -> Layout | None:
    """Return the layout of Qwen's gated delta nets: keys and values of other widths, a gate z."""
    layer: Any = site.parent
    if site.label == "in_proj_qkv":
        return Layout({"q": layer.key_dim, "k": layer.key_dim, "v": layer.value_dim})
    if site.label == "in_proj_qkvz":
        heads = layer.num_k_heads
        key = layer.key_dim // heads
        value = layer.value_dim // heads
        return Layout({"q": key, "k": key, "v": value, "z": value}, heads)
    return None


def _takes_half(site: Site) -> bool:
    neighbour = getattr(site.parent, _HALVES_BY_NEIGHBOUR.get(site.label, ""), None)
    if not isinstance(neighbour, nn.Linear):
        return False
    return 2 * whole_shape(neighbour.weight)[1] == site.outputs


def _by_heads(site: Site, inputs: int) -> Layout | None:
    """Return blocks of queries, keys and values, by the heads of the layer or its model."""
    for source in (site.parent, site.layer, site.config):
        heads = _first(source, _HEADS)
        if heads is None:
            continue
        groups = _first(source, _KEY_VALUE_HEADS) or heads
        size = _first(source, _HEAD_SIZES) or inputs // heads
        if (heads + 2 * groups) * size == site.outputs:
            return Layout({"q": heads * size, "k": groups * size, "v": groups * size})
    return None


def _by_shape(site: Site, inputs: int) -> Layout | None:
    """Return three equal blocks, or as many queries as the projection behind takes."""
    if site.outputs == 3 * inputs:
        return _blocks(inputs, site.outputs)
    if site.outputs == 2 * inputs and "cross" in site.layer_path:
        return Layout({"k": inputs, "v": inputs})
    for name in _OUTPUT_NAMES if site.label not in _SHARED_NAMES else ():
        projection = getattr(site.parent, name, None)
        if isinstance(projection, nn.Linear):
            return _blocks(whole_shape(projection.weight)[1], site.outputs)
    return None


def _blocks(queries: int, outputs: int) -> Layout | None:
    """Return blocks in which keys and values have half each of what the queries leave."""
    half, odd = divmod(outputs - queries, 2)
    if half < 1 or odd or queries % half:
        return None
    return Layout({"q": queries, "k": half, "v": half})


def _first(source: Any, names: tuple[str, ...]) -> int | None:
    """Return the first attribute that is a positive whole number."""
    for name in names:
        value = getattr(source, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _unknown(site: Site, inputs: int) -> str:
    layout = _blocks(inputs, site.outputs) or _blocks(site.outputs // 3, site.outputs)
    parts: Mapping[str, int | str] = layout.parts if layout else dict.fromkeys("qkv", "...")
    pattern = f"*{site.name.removeprefix(site.name.rpartition(site.label)[0])}"
    return (
        f"{site.name} [{site.outputs}, {inputs}] holds several matrices, and their layout is not "
        f"known: if they lie one behind the other, write splits={{{pattern!r}: {dict(parts)}}} "
        f"with the outputs of each; if they alternate head by head, those of one head and "
        f"{REPEAT!r}: the number of heads; splits={{{pattern!r}: {{}}}} takes it as one matrix"
    )
