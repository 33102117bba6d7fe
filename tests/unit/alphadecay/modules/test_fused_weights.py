"""Fused projections: split as their model reads them, or refused with what to write."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
)

from alphadecay import AdamW, AlphaDecay, pl_alpha_hill
from alphadecay.modules import choose_modules, find_modules

H = 32
HEADS = 4


def part(model: nn.Module, suffix: str, **choices: Any) -> torch.Tensor:
    """The matrix of the one module whose name ends so."""
    (module,) = [m for m in find_modules(model, **choices) if m.name.endswith(suffix)]
    start, stop = module.flat_range
    matrix = module.matrix(module.parameter.detach().reshape(-1)[start:stop])
    assert tuple(matrix.shape) == module.shape
    return matrix


def test_named_splits_and_their_errors() -> None:
    model = nn.ModuleDict({"qkv_proj": nn.Linear(6, 10, bias=False)})
    modules = find_modules(model, splits={"*qkv_proj*": {"q": 6, "k": 2, "v": 2}})
    assert [(m.name, m.shape) for m in modules] == [
        (f"qkv_proj.weight[{p}]", (n, 6)) for p, n in (("q", 6), ("k", 2), ("v", 2))
    ]
    with pytest.raises(ValueError, match="adds up to 9, the weight has 10"):
        find_modules(model, splits={"*qkv_proj*": {"q": 6, "k": 3}})


def test_gpt2_fused_attention_is_split_by_columns_of_its_transposed_weight() -> None:
    model = GPT2LMHeadModel(
        GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=30, n_positions=8)
    )
    modules = {module.name: module for module in find_modules(model)}
    weight = model.transformer.h[0].attn.c_attn.weight
    for index, part in enumerate("qkv"):
        module = modules[f"transformer.h.0.attn.c_attn.weight[{part}]"]
        start, stop = module.flat_range
        assert torch.equal(
            module.matrix(weight.reshape(-1)[start:stop]), weight[:, 16 * index : 16 * (index + 1)]
        )
    shapes = {
        x: modules[f"transformer.h.0.{x}.weight"].shape
        for x in ("attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    assert shapes == {"attn.c_proj": (16, 16), "mlp.c_fc": (16, 64), "mlp.c_proj": (64, 16)}
    assert len(modules) == 6


class Attention(nn.Module):
    """The projections of an attention layer, fused under any name."""

    def __init__(self, name: str, outputs: int, **facts: int) -> None:
        super().__init__()
        setattr(self, name, nn.Linear(H, outputs, bias=False))
        self.c_proj = nn.Linear(H, H, bias=False)
        for fact, value in facts.items():
            setattr(self, fact, value)


@pytest.mark.parametrize("name", ["c_attn", "qkv", "Wqkv", "qkv_proj", "in_proj", "W_pack"])
def test_three_equal_blocks(name: str) -> None:
    model = nn.ModuleDict({"attn": Attention(name, 3 * H)})
    weight = getattr(model["attn"], name).weight
    for index, letter in enumerate("qkv"):
        found = part(model, f"{name}.weight[{letter}]")
        assert torch.equal(found, weight[index * H : (index + 1) * H])


@pytest.mark.parametrize(
    "facts", [{"num_heads": HEADS, "num_kv_heads": 1}, {"n_head": HEADS, "n_kv_head": 1}, {}]
)
def test_grouped_queries_by_heads_or_by_the_output_projection(facts: dict[str, int]) -> None:
    size = H // HEADS
    model = nn.ModuleDict({"attn": Attention("qkv", H + 2 * size, **facts)})
    weight = model["attn"].qkv.weight
    assert torch.equal(part(model, "[q]"), weight[:H])
    assert torch.equal(part(model, "[k]"), weight[H : H + size])
    assert torch.equal(part(model, "[v]"), weight[H + size :])


def test_a_layout_that_is_not_known_is_refused_with_the_splits_to_write() -> None:
    model = nn.ModuleDict({"attn": Attention("qkv", 70)})
    with pytest.raises(ValueError, match=r"attn\.qkv\.weight \[70, 32\] holds several matrices"):
        find_modules(model)
    model = nn.ModuleDict({"attn": Attention("query_key_value", H + 16)})
    with pytest.raises(ValueError) as refusal:
        find_modules(model)
    said = "splits={'*query_key_value.weight': {'q': 32, 'k': 8, 'v': 8}}"
    assert said in str(refusal.value)
    told = {"*query_key_value.weight": {"q": 32, "k": 8, "v": 8}}
    assert part(model, "[k]", splits=told).shape == (8, H)
    whole = [m.name for m in find_modules(model, splits={"*query_key_value.weight": {}})]
    assert whole == ["attn.query_key_value.weight", "attn.c_proj.weight"]


def test_a_name_that_other_layers_have_is_warned_of_once() -> None:
    layers = (nn.ModuleDict({"in_proj": nn.Linear(H, 5 * H)}) for _ in range(2))
    model = nn.Sequential(*layers, nn.Linear(H, 8 * H), nn.Linear(8 * H, H))
    choice = choose_modules(model)
    assert choice.modules[0].name == "0.in_proj.weight"
    (warning,) = choice.warnings
    assert "0.in_proj.weight [160, 32] is taken as one matrix" in warning
    assert "splits={'*in_proj.weight':" in warning
    told = choose_modules(model, splits={"*in_proj.weight": {"x": 2 * H, "z": 3 * H}})
    assert told.warnings == () and len(told.modules) == 6


def test_what_alternates_can_be_written() -> None:
    model = nn.ModuleDict({"attn": Attention("query_key_value", 3 * H)})
    size = H // HEADS
    told = {"*query_key_value*": {"q": size, "k": size, "v": size, "repeat": HEADS}}
    weight = model["attn"].query_key_value.weight.view(HEADS, 3, size, H)
    for index, letter in enumerate("qkv"):
        found = part(model, f"[{letter}]", splits=told)
        assert torch.equal(found, weight[:, index].reshape(H, H))
    with pytest.raises(ValueError, match="adds up to 72, the weight has 96"):
        find_modules(
            model, splits={"*query_key_value*": {**told["*query_key_value*"], "repeat": 3}}
        )


COMMON = {"hidden_size": H, "num_hidden_layers": 1, "num_attention_heads": HEADS, "vocab_size": 64}
FALCON = {**COMMON, "num_kv_heads": 2}
PER_HEAD = {
    "gpt_neox": {**COMMON, "intermediate_size": 48},
    "bloom": {"hidden_size": H, "n_layer": 1, "n_head": HEADS, "vocab_size": 64},
    "falcon": {**COMMON, "new_decoder_architecture": False, "multi_query": False},
}


@pytest.mark.parametrize("kind", PER_HEAD)
def test_heads_that_alternate(kind: str) -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **PER_HEAD[kind]))
    named = dict(model.named_parameters())
    name = next(name for name in named if name.endswith("query_key_value.weight"))
    weight = named[name].view(HEADS, 3, H // HEADS, H)
    for index, letter in enumerate("qkv"):
        assert torch.equal(part(model, f"[{letter}]"), weight[:, index].reshape(H, H))


def test_falcon_groups_and_its_single_key() -> None:
    grouped = AutoConfig.for_model("falcon", **FALCON, new_decoder_architecture=True)
    model = AutoModelForCausalLM.from_config(grouped)
    weight = model.transformer.h[0].self_attention.query_key_value.weight
    groups = weight.view(2, HEADS // 2 + 2, H // HEADS, H)
    assert torch.equal(part(model, "[q]"), groups[:, :-2].reshape(H, H))
    assert torch.equal(part(model, "[v]"), groups[:, -1].reshape(-1, H))
    single = AutoConfig.for_model(
        "falcon", **COMMON, new_decoder_architecture=False, multi_query=True
    )
    model = AutoModelForCausalLM.from_config(single)
    weight = model.transformer.h[0].self_attention.query_key_value.weight
    assert torch.equal(part(model, "[q]"), weight[:H])
    assert torch.equal(part(model, "[k]"), weight[H : H + H // HEADS])


def test_codegen_reads_queries_values_and_keys_in_four_parts() -> None:
    config = AutoConfig.for_model(
        "codegen", n_embd=H, n_layer=1, n_head=HEADS, vocab_size=64, rotary_dim=4, n_positions=8
    )
    model = AutoModelForCausalLM.from_config(config)
    quarters = model.transformer.h[0].attn.qkv_proj.weight.view(4, 3, H // 4, H)
    for index, letter in enumerate("qvk"):
        assert torch.equal(part(model, f"[{letter}]"), quarters[:, index].reshape(H, H))


def test_phi3_has_fewer_keys_than_queries() -> None:
    config = AutoConfig.for_model(
        "phi3", **COMMON, intermediate_size=48, num_key_value_heads=2, pad_token_id=0
    )
    model = AutoModelForCausalLM.from_config(config)
    weight = model.model.layers[0].self_attn.qkv_proj.weight
    assert torch.equal(part(model, "[v]"), weight[-H // 2 :])
    weight = model.model.layers[0].mlp.gate_up_proj.weight
    assert torch.equal(part(model, "[gate]"), weight[:48])


@pytest.mark.parametrize(("inward", "outward"), [("Wi", "Wo"), ("fc1", "fc2"), ("w12", "w3")])
def test_a_gate_is_told_by_the_projection_behind_it(inward: str, outward: str) -> None:
    gated = nn.ModuleDict({inward: nn.Linear(H, 96), outward: nn.Linear(48, H)})
    names = [module.name for module in find_modules(gated)]
    assert names == [f"{inward}.weight[gate]", f"{inward}.weight[up]", f"{outward}.weight"]
    plain = nn.ModuleDict({inward: nn.Linear(H, 96), outward: nn.Linear(96, H)})
    assert [m.name for m in find_modules(plain)] == [f"{inward}.weight", f"{outward}.weight"]


@pytest.mark.parametrize("kind", ["qwen3_next", "qwen3_5_text"])
def test_gated_delta_nets(kind: str) -> None:
    layer = {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
    sizes = {"linear_key_head_dim": 8, "linear_value_head_dim": 12}
    try:
        config = AutoConfig.for_model(
            kind,
            **COMMON,
            **layer,
            **sizes,
            head_dim=8,
            num_key_value_heads=2,
            num_experts=0,
            intermediate_size=48,
            layer_types=["linear_attention"],
            pad_token_id=0,
        )
    except ValueError:
        pytest.skip("this transformers does not know it")
    model = AutoModelForCausalLM.from_config(config)
    net = model.model.layers[0].linear_attn
    if kind == "qwen3_next":
        periods = net.in_proj_qkvz.weight.view(2, 8 + 8 + 24 + 24, H)
        assert torch.equal(part(model, "[k]"), periods[:, 8:16].reshape(16, H))
        assert torch.equal(part(model, "[z]"), periods[:, 40:].reshape(48, H))
    else:
        assert torch.equal(part(model, "qkv.weight[v]"), net.in_proj_qkv.weight[32:])


def test_a_fused_weight_has_an_alpha_and_a_decay_for_each_part() -> None:
    """Taken whole, the three spectra would make one that is none of theirs."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"attn": Attention("c_attn", 3 * H), "mlp": nn.Linear(H, 4 * H)})
    weight = model["attn"].c_attn.weight
    with torch.no_grad():
        for index in range(3):
            weight[index * H : (index + 1) * H] *= torch.logspace(0, -index, H)
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
    own = [pl_alpha_hill(weight[index * H : (index + 1) * H].detach()) for index in range(3)]
    found = [decay.alphas[f"attn.c_attn.weight[{letter}]"] for letter in "qkv"]
    assert found == pytest.approx(own, rel=1e-5)
    assert all(abs(alpha - pl_alpha_hill(weight.detach())) > 0.1 for alpha in own)
    assert len({decay.weight_decays[f"attn.c_attn.weight[{letter}]"] for letter in "qkv"}) == 3
