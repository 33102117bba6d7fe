"""Find where the parameters of a model sit, and which are linear maps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import nn

from alphadecay.modules.weight import bare_name, whole_shape

Kind = Literal["linear", "conv1d", "experts", "convolution"]
_CONV1D = "Conv1D"  # transformers' GPT-2 layer: a linear weight stored [in, out]
_ATTENTION_WEIGHTS = frozenset(
    {"in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"}
)
# What PEFT puts between a layer's name and its weight.
_ADAPTER_PARTS = re.compile(r"\.(?:original_module|base_layer|modules_to_save\.[^.]+)(?=\.|$)")


@dataclass(frozen=True)
class Site:
    """This is one parameter in its place.

    Args:
        name: in the bare model.
        parameter: itself.
        layer: the module that holds it.
        parent: the module that holds the layer; None for the model itself.
        config: the nearest configuration above it that tells of heads, as transformers' models
            have; None without.
    """

    name: str
    parameter: nn.Parameter
    layer: nn.Module
    parent: nn.Module | None
    config: Any

    @cached_property
    def layer_path(self) -> str:
        """Return the layer's path in the bare model, without what PEFT puts in."""
        return _ADAPTER_PARTS.sub("", self.name.rpartition(".")[0])

    @cached_property
    def label(self) -> str:
        """Return the layer's own name, such as "q_proj"; the parameter's, where that tells more."""
        leaf = self.name.rpartition(".")[2]
        return self.layer_path.rpartition(".")[2] if leaf == "weight" else leaf

    @cached_property
    def kind(self) -> Kind | None:
        """Say what linear map it is; None for none."""
        leaf = self.name.rpartition(".")[2]
        dims = len(whole_shape(self.parameter))
        layer = self.layer
        if isinstance(layer, nn.MultiheadAttention):
            return "linear" if leaf in _ATTENTION_WEIGHTS else None
        if isinstance(layer, nn.modules.conv._ConvNd):
            return "convolution" if leaf == "weight" else None
        if dims == 3 and not leaf.endswith("bias") and self._among_experts:
            return "experts"
        if leaf != "weight" or dims != 2:
            return None
        if isinstance(layer, nn.Linear):
            return "linear"
        return "conv1d" if type(layer).__name__ == _CONV1D else None

    @cached_property
    def _among_experts(self) -> bool:
        return "experts" in self.name or "Experts" in type(self.layer).__name__

    @cached_property
    def outputs(self) -> int:
        """Count the outputs of a linear map."""
        shape = whole_shape(self.parameter)
        return shape[1] if self.kind == "conv1d" else shape[0]


def sites(model: nn.Module) -> Iterator[Site]:
    """Yield every parameter in its place, tied ones once, in the model's order."""
    layers = dict(model.named_modules())
    configs: dict[str, Any] = {}
    for path, layer in layers.items():  # parents come before what they hold
        own = getattr(layer, "config", None)
        tells = hasattr(own, "model_type") or hasattr(own, "n_head")
        configs[path] = own if tells else configs.get(path.rpartition(".")[0])
    for full_name, parameter in model.named_parameters():
        path = full_name.rpartition(".")[0]
        parent = layers.get(path.rpartition(".")[0]) if path else None
        yield Site(bare_name(full_name), parameter, layers[path], parent, configs[path])


def refuse_hidden_weights(model: nn.Module, excluded: frozenset[str]) -> None:
    """Refuse layers whose weight is made from other parameters.

    Args: excluded: names of parameters that the user leaves at the base decay.

    Raises:
        ValueError: naming the weight and what to do.
    """
    for path, layer in model.named_modules():
        if not isinstance(layer, nn.Linear) or "weight" in layer._parameters:
            continue
        parts = {
            bare_name(f"{path}.{name}" if path else name): parameter
            for name, parameter in layer.named_parameters()
            if not name.endswith("bias")
        }
        sources = sorted(name for name, p in parts.items() if p.requires_grad)
        if sources and not excluded.issuperset(sources):
            weight = bare_name(f"{path}.weight" if path else "weight")
            raise ValueError(
                f"{weight} is computed from {', '.join(sources)} (parametrised, as by "
                "weight_norm): a decay of those is none of the weight; remove the "
                f"parametrisation, or leave them at the base decay with exclude={sources!r}"
            )
