"""Finds weights that are stored as codes: their values are not to be had from one tensor."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from alphadecay.inspect.sources import StoredTensor

# What stands beside a weight's codes, behind the layer's or the weight's name.
_COMPANIONS = (
    ".qzeros",
    ".scale",
    ".scale_inv",
    ".scales",
    ".scale_weight",
    ".g_idx",
    ".SCB",
    ".weight_format",
    ".absmax",
    ".nested_absmax",
    ".quant_map",
    ".nested_quant_map",
    ".weight_scale",
    ".weight_scale_2",
    ".weight_scale_inv",
    ".weight_shape",
    ".weight_zero_point",
    ".weight_g_idx",
    ".input_scale",
    "_scales",
    "_scale_inv",
)
_QUANT_STATE = ".quant_state."
# Codes under names of their own -> how they are said to have been made.
_CODES: Mapping[str, str] = {
    ".qweight": "packed, as GPTQ and AWQ do",
    ".weight_packed": "packed, as compressed-tensors does",
    "_blocks": "in blocks of MXFP4",
}
_FLOAT8 = frozenset({torch.float8_e4m3fn, torch.float8_e5m2})


def quantised(tensors: Mapping[str, StoredTensor]) -> tuple[dict[str, str], set[str]]:
    """Return why each quantised weight is none that can be measured, and the names of what belongs
    to them.
    """
    reasons = {
        name: f"it is quantised: {how}"
        for name, tensor in tensors.items()
        if (how := _how(name, tensor, tensors))
    }
    bases = {_base(name) for name in reasons}
    belongs = {name for name in tensors if name not in reasons and _companion_of(name) in bases}
    return reasons, belongs


def _how(name: str, tensor: StoredTensor, tensors: Mapping[str, StoredTensor]) -> str:
    """Return how a tensor is quantised; empty where it is not."""
    if len(tensor.shape) < 2:
        return ""
    for suffix, how in _CODES.items():
        if name.endswith(suffix) and not _floats(tensor):
            return how
    if not name.rpartition(".")[2].endswith(("weight", "_proj")):
        return ""
    if tensor.dtype in _FLOAT8:
        return "8-bit floats with scales" if _scales(name) & tensors.keys() else ""
    if tensor.dtype is None:
        return "a dtype that torch does not have"
    return "" if _floats(tensor) else f"{str(tensor.dtype).removeprefix('torch.')} codes"


def _floats(tensor: StoredTensor) -> bool:
    return tensor.dtype is not None and tensor.dtype.is_floating_point


def _scales(name: str) -> set[str]:
    """Return the names that the scales of a weight of 8-bit floats may have."""
    beside = {f"{name}{end}" for end in ("_scale", "_scale_inv", "_scales")}
    layer = name.rpartition(".")[0]
    return beside | {f"{layer}.{leaf}" for leaf in ("scale", "scale_inv", "scales", "scale_weight")}


def _base(name: str) -> str:
    for suffix in (*_CODES, ".weight"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def _companion_of(name: str) -> str:
    """Return the layer that a tensor of scales, zeros or the like belongs to; empty for none."""
    if _QUANT_STATE in name:
        return name.partition(_QUANT_STATE)[0].removesuffix(".weight")
    for suffix in _COMPANIONS:
        if name.endswith(suffix):
            return name.removesuffix(suffix).removesuffix(".weight")
    return ""
