"""Which weights are modules, under what names."""

import pytest
import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    ViTConfig,
)
from transformers import ViTForImageClassification as ViT

from alphadecay.modules import choose_modules, find_modules


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


def test_every_weight_that_is_no_module_has_a_reason() -> None:
    model = llama()
    model.model.norm_out = nn.Conv2d(3, 5, 2)
    model.model.layers[0].mlp.up_proj.weight.requires_grad_(False)
    choice = choose_modules(model, exclude=["model.layers.1.mlp.*"])
    chosen = {module.name for module in choice.modules}
    assert chosen.isdisjoint(choice.reasons)
    assert chosen | set(choice.reasons) == set(choice.shapes)
    reasons = {
        "model.embed_tokens.weight": "embedding",
        "lm_head.weight": "output head",
        "model.norm.weight": "gain or a bias",
        "model.norm_out.weight": "convolution",
        "model.layers.0.mlp.up_proj.weight": "not trained",
        "model.layers.1.mlp.down_proj.weight": "exclude names it",
    }
    for name, reason in reasons.items():
        assert reason in choice.reasons[name]


def test_the_projections_of_multihead_attention() -> None:
    same = names(nn.TransformerEncoderLayer(64, 4))
    assert same[:3] == [f"self_attn.in_proj_weight[{part}]" for part in "qkv"]
    assert same[3:] == ["self_attn.out_proj.weight", "linear1.weight", "linear2.weight"]
    other = names(nn.MultiheadAttention(64, 4, kdim=32, vdim=16, add_bias_kv=True))
    assert other == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]


def test_convolutions_on_request_and_as_published() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 4), nn.Flatten(), nn.Linear(72, 40), nn.Linear(40, 30))
    assert names(model) == ["2.weight", "3.weight"]
    asked = find_modules(model, include=["*.weight"])
    assert (asked[0].name, asked[0].shape, asked[0].kernel) == ("0.weight", (8, 48), 1)
    assert torch.equal(asked[0].matrix(model[0].weight.reshape(-1)), model[0].weight.reshape(8, 48))
    published = find_modules(model, published=True)
    assert [(m.name, m.kernel) for m in published] == [("0.weight", 16), ("3.weight", 1)]


def test_a_convolution_over_one_axis_is_no_stack_of_experts() -> None:
    model = nn.Conv1d(10, 12, 3)
    (module,) = find_modules(model, include=["weight"])
    assert (module.name, module.shape) == ("weight", (12, 30))


def test_a_parametrised_weight_is_refused_unless_excluded() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    torch.nn.utils.parametrizations.weight_norm(model[0])
    with pytest.raises(ValueError, match=r"0\.weight is computed from .*original0.*remove"):
        find_modules(model)
    assert names(model, exclude=["0.parametrizations.*"]) == ["1.weight"]


def test_a_complex_weight_is_refused_by_name_unless_excluded() -> None:
    model = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"1\.weight is torch.complex64.*exclude"):
        find_modules(model)
    assert names(model, exclude=["1.weight"]) == ["0.weight"]


def test_a_model_without_values_can_be_planned_for() -> None:
    modules = find_modules(nn.Linear(8, 9, device="meta"))
    assert [(module.name, module.shape) for module in modules] == [("weight", (9, 8))]
