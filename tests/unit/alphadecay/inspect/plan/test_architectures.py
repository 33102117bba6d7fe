"""The weights of known architectures are those of transformers' own models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.plan.architectures import ARCHITECTURES, weights_of
from alphadecay.inspect.plan.model import model_of_config
from alphadecay.modules import WeightModule, find_modules

DECODER = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
ENCODER = {key: DECODER[key] for key in list(DECODER)[:5]}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", DECODER),
    ("llama", {**DECODER, "tie_word_embeddings": True, "head_dim": 16, "mlp_bias": True}),
    ("llama", {**DECODER, "num_key_value_heads": None, "attention_bias": True}),
    ("mistral", DECODER),
    ("qwen2", DECODER),
    ("qwen3", {**DECODER, "tie_word_embeddings": True}),
    ("phi3", DECODER),
    ("mixtral", {**DECODER, "num_local_experts": 4}),
    ("qwen3_moe", {**DECODER, "num_experts": 4, "moe_intermediate_size": 24}),
    ("gpt_oss", {**DECODER, "num_local_experts": 4}),
    ("gpt2", {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16}),
    ("gpt2", {"n_embd": 32, "n_layer": 1, "n_head": 4, "n_inner": 40, "vocab_size": 9}),
    ("gpt_neox", ENCODER),
    ("gpt_neox", {**ENCODER, "attention_bias": False, "tie_word_embeddings": True}),
    ("bert", ENCODER),
    ("roberta", {**ENCODER, "max_position_embeddings": 66, "type_vocab_size": 1}),
    ("vit", {**ENCODER, "image_size": 32, "patch_size": 8}),
    ("vit", {**ENCODER, "image_size": 32, "patch_size": 8, "qkv_bias": False}),
]


def built(config: Any) -> torch.nn.Module:
    """Build transformers' model on the meta device."""
    kinds = {
        "bert": transformers.AutoModelForMaskedLM,
        "roberta": transformers.AutoModelForMaskedLM,
        "vit": transformers.AutoModelForImageClassification,
    }
    with torch.device("meta"):
        kind = kinds.get(config.model_type, transformers.AutoModelForCausalLM)
        model: torch.nn.Module = kind.from_config(config)
    return model


def shapes(values: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {weight.name: weight.shape for weight in weights_of(values, "config.json")}


def by_name(modules: list[WeightModule]) -> list[WeightModule]:
    return sorted(modules, key=lambda module: module.name)


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_names_shapes_and_modules_are_those_of_transformers(kind: str, values: Any) -> None:
    config = transformers.AutoConfig.for_model(kind, **values)
    model = built(config)
    expected = {name: tuple(p.shape) for name, p in model.named_parameters()}
    planned = model_of_config(kind, config.to_dict(), "config.json")
    assert shapes(config.to_dict()) == expected
    if "pad_token_id" in values:  # a short file, as one writes it by hand
        assert shapes({"model_type": kind, **values}) == expected
    ours = by_name(planned.modules)
    theirs = by_name(find_modules(model))
    assert {module.name: module.shape for module in ours} == {
        module.name: module.shape for module in theirs
    }
    assert [module.flat_range for module in ours] == [module.flat_range for module in theirs]


def test_every_architecture_is_compared() -> None:
    assert {kind for kind, _ in CASES} == set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_type": "mamba"}, "model_type is mamba; known are llama"),
        ({}, "model_type is None"),
        ({"model_type": "llama"}, "no 'hidden_size'"),
        ({**DECODER, "model_type": "llama", "hidden_size": "32"}, "hidden_size is '32'"),
        ({**DECODER, "model_type": "llama", "vocab_size": 0}, "vocab_size is 0"),
        ({**DECODER, "model_type": "llama", "num_hidden_layers": True}, "is True"),
        ({**DECODER, "model_type": "qwen3_moe", "mlp_only_layers": [1]}, "take turns"),
    ],
)
def test_what_is_not_known_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InspectError, match=said):
        weights_of(values, "config.json")
