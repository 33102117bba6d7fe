"""Which weights are modules, under what names."""

import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    ViTConfig,
)
from transformers import ViTForImageClassification as ViT

from alphadecay.modules import bare_name, find_modules


def llama(**more: object) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            **more,
        )
    )


def names(model: nn.Module, **choices: object) -> list[str]:
    return [module.name for module in find_modules(model, **choices)]  # type: ignore[arg-type]


def test_llama_has_seven_modules_a_layer_and_neither_embedding_nor_head() -> None:
    expected = [f"self_attn.{x}_proj" for x in "qkvo"] + [
        f"mlp.{x}_proj" for x in ("gate", "up", "down")
    ]
    assert names(llama()) == [f"model.layers.{i}.{x}.weight" for i in range(2) for x in expected]


def test_a_tied_head_stays_out() -> None:
    assert len(names(llama(tie_word_embeddings=True))) == 14


def test_published_mode_drops_the_first_linear_which_is_a_query() -> None:
    assert set(names(llama())) - set(names(llama(), published=True)) == {
        "model.layers.0.self_attn.q_proj.weight"
    }


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


def test_vit_and_roberta_layers_are_found_without_heads() -> None:
    vit = ViT(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=16,
            patch_size=8,
        )
    )
    roberta = RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=30,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        )
    )
    assert len(names(vit)) == 6
    assert "classifier.weight" not in names(vit)
    found = names(roberta)
    assert sum("encoder.layer.0" in name for name in found) == 6
    assert not any("embeddings" in name or name == "lm_head.decoder.weight" for name in found)


def test_experts_count_one_by_one_and_fused_halves_apart() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_up_proj = nn.Parameter(torch.randn(3, 8, 5))
            self.down_proj = nn.Parameter(torch.randn(3, 5, 4))

    model = nn.Module()
    model.experts = Experts()
    modules = {module.name: module for module in find_modules(model)}
    assert len(modules) == 9
    up = modules["experts.gate_up_proj[2.up]"]
    start, stop = up.flat_range
    assert torch.equal(
        up.matrix(model.experts.gate_up_proj.reshape(-1)[start:stop]),
        model.experts.gate_up_proj[2, 4:],
    )


def test_named_splits_and_their_errors() -> None:
    model = nn.ModuleDict({"qkv_proj": nn.Linear(6, 10, bias=False)})
    modules = find_modules(model, splits={"*qkv_proj*": {"q": 6, "k": 2, "v": 2}})
    assert [(m.name, m.shape) for m in modules] == [
        (f"qkv_proj.weight[{p}]", (n, 6)) for p, n in (("q", 6), ("k", 2), ("v", 2))
    ]
    with pytest.raises(ValueError, match="adds up to 9, the weight has 10"):
        find_modules(model, splits={"*qkv_proj*": {"q": 6, "k": 3}})


def test_a_pattern_that_matches_nothing_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(
        ValueError, match=r"layers\.\*\.q_porj.*matches no trainable parameter.*nearest"
    ):
        find_modules(llama(), exclude=["model.layers.*.q_porj.weight"])
    assert not any("q_proj" in name for name in names(llama(), exclude=["*.q_proj.weight"]))
    assert names(llama(), include=["lm_head.weight"]) == ["lm_head.weight"]


def test_a_model_without_linear_weights_is_an_error() -> None:
    with pytest.raises(ValueError, match="no linear weight"):
        find_modules(nn.LayerNorm(4))


def test_bare_names() -> None:
    assert (
        bare_name("module._orig_mod.layers.0._checkpoint_wrapped_module.q.weight")
        == "layers.0.q.weight"
    )
    assert bare_name("submodule.q.weight") == "submodule.q.weight"
