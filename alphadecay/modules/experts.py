"""Experts: how a stack [E, M, N] lies, and which ranks hold which.

Stacks are [E, outputs, inputs] (Mixtral, Qwen) or [E, inputs, outputs] (Llama 4, gpt-oss, whose
gate and up alternate).
"""

from __future__ import annotations

import re
from typing import Any

from alphadecay.modules.fused import Layout
from alphadecay.modules.sites import Site
from alphadecay.modules.weight import whole_shape

_FUSED = frozenset({"gate_up_proj", "gate_up", "w13", "input_linear"})
_ALTERNATING_LAYERS = ("GptOss",)  # in transformers that do not say is_concatenated
_RANKS = re.compile(r"ep_size_(\d+)")


def expert_layout(site: Site, given: bool = False) -> tuple[int, Layout | None]:
    """Return the axis of an expert's outputs, 0 or 1, and how they divide; None for one matrix.

    Args: given: the user says how they divide, and the axis alone is asked for.

    Raises:
        ValueError: it is fused by its name, and its outputs do not halve.
    """
    _, first, second = whole_shape(site.parameter)
    axis = int(_is_transposed(site))
    outputs = (first, second)[axis]
    if given or site.label not in _FUSED:
        return axis, None
    half, odd = divmod(outputs, 2)
    if odd:
        raise ValueError(
            f"{site.name} {list(whole_shape(site.parameter))}: gate and up do not halve "
            f"{outputs} outputs; write splits={{{site.name!r}: {{'gate': ..., 'up': ...}}}}"
        )
    if _alternates(site.layer):
        return axis, Layout({"gate": 1, "up": 1}, half)
    return axis, Layout({"gate": half, "up": half})


def refuse_experts_of_ranks(site: Site) -> None:
    """Refuse experts that are others on every rank under one name.

    Raises:
        ValueError: expert parallelism of DeepSpeed's MoE or AutoEP.
    """
    parameter: Any = site.parameter
    ranks = _RANKS.fullmatch(str(getattr(parameter, "group_name", "")))
    if getattr(parameter, "allreduce", True) or (ranks and int(ranks[1]) == 1):
        return
    raise ValueError(
        f"{site.name} is another expert on each rank of expert parallelism (group "
        f"{getattr(parameter, 'group_name', 'unknown')}), and one alpha would decay them all: set "
        f"ep_size to 1, or leave them at the base decay with exclude=[{_pattern(site.name)!r}]"
    )


def _pattern(name: str) -> str:
    """Return a pattern of all experts beside one."""
    parts = name.split(".")
    held = next((i for i, part in enumerate(parts) if "experts" in part), None)
    return name if held is None else f"*.{parts[held]}.*" if held else f"{parts[held]}.*"


def _is_transposed(site: Site) -> bool:
    """Return whether a stack is [E, inputs, outputs]: the layer says so, or the pair that makes an
    MLP shows it, up [E, H, 2I] with down [E, I, H].
    """
    said = getattr(site.layer, "is_transposed", None)
    if isinstance(said, bool):
        return said
    shapes = {name: whole_shape(p) for name, p in site.layer.named_parameters(recurse=False)}
    up = next((shapes[name] for name in _FUSED if name in shapes), None)
    down = shapes.get("down_proj")
    if up is None or down is None or len(up) != 3 or len(down) != 3:
        return False
    return (up[1], up[2]) == (down[2], 2 * down[1]) and (up[2], up[1]) != (down[1], 2 * down[2])


def _alternates(layer: Any) -> bool:
    said = getattr(layer, "is_concatenated", None)
    if isinstance(said, bool):
        return not said
    return type(layer).__name__.startswith(_ALTERNATING_LAYERS)
