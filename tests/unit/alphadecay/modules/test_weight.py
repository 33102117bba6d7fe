"""Names and shapes of parameters, and which are gains or biases."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alphadecay.modules import (
    bare_name,
    exempt_parameters,
    named_parameters,
)


def test_bare_names() -> None:
    assert (
        bare_name("module._orig_mod.layers.0._checkpoint_wrapped_module.q.weight")
        == "layers.0.q.weight"
    )
    assert bare_name("submodule.q.weight") == "submodule.q.weight"


def test_names_that_collide_without_their_wrappers_are_an_error() -> None:
    class Wrap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))
            self.module = nn.Linear(16, 16, bias=False)

    with pytest.raises(ValueError, match=r"x\.weight and x\.module\.weight have one name"):
        named_parameters(nn.ModuleDict({"x": Wrap()}))


def test_biases_of_experts_and_of_attention_are_exempt_whatever_their_axes() -> None:
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2, add_bias_kv=True)})
    model.experts = nn.ParameterDict(
        {"gate_up_proj_bias": torch.zeros(2, 6), "gate_up_proj": torch.zeros(2, 3, 6)}
    )
    exempt = {id(parameter) for parameter in exempt_parameters(model)}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in exempt}
    assert names == {
        "attention.in_proj_bias",
        "attention.bias_k",
        "attention.bias_v",
        "attention.out_proj.bias",
        "experts.gate_up_proj_bias",
    }
