"""The weights of a stored model are those of the model itself, in every architecture and format."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.models import Weights, find_weights, matrices
from alphadecay.inspect.models.weights import BY_SHAPE, ONE_MATRIX
from alphadecay.inspect.sources import open_source
from alphadecay.modules import find_modules
from tests.unit.alphadecay.inspect.tiny import TINY

# Those that transformers writes under the names of its earlier releases.
RENAMED = {"mixtral", "vit"}


def fingerprints(weights: Weights) -> Counter[tuple[tuple[int, int], float, float]]:
    """Return shape, sum and last element of every matrix, whatever its name."""
    return Counter(
        (weight.shape, float(matrix.double().sum()), float(matrix[-1, -1]))
        for weight, matrix in matrices(weights.measured)
        if isinstance(matrix, torch.Tensor)
    )


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_folder_has_the_weights_of_the_model(name: str, tmp_path: Path) -> None:
    model = TINY[name]()
    model.save_pretrained(tmp_path)
    of_model = find_weights(open_source(model))
    of_folder = find_weights(open_source(tmp_path))
    if name not in RENAMED:
        assert {w.name for w in of_folder.measured} == {w.name for w in of_model.measured}
    assert fingerprints(of_folder) == fingerprints(of_model)
    assert of_folder.warnings == of_model.warnings == ()
    assert not of_folder.set_aside and not of_model.set_aside


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_state_dict_has_them_under_the_models_own_names(name: str, tmp_path: Path) -> None:
    model = TINY[name]()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    model.config.save_pretrained(tmp_path)
    of_file = find_weights(open_source(tmp_path / "model.pt"))
    of_model = find_weights(open_source(model))
    assert {w.name for w in of_file.measured} == {w.name for w in of_model.measured}
    assert fingerprints(of_file) == fingerprints(of_model)


@pytest.mark.parametrize("name", sorted(set(TINY) - {"resnet"}))
def test_those_that_take_part_are_alphadecays_modules(name: str) -> None:
    model = TINY[name]()
    taken = {w.name: w.shape for w in find_weights(open_source(model)).measured if w.takes_part}
    assert taken == {module.name: module.shape for module in find_modules(model)}


def test_convolutions_are_measured_and_take_no_part() -> None:
    weights = find_weights(open_source(TINY["resnet"]()))
    assert len(weights.measured) > 4
    assert not any(weight.takes_part for weight in weights.measured)
    shapes = {weight.tensor.shape: weight.shape for weight in weights.measured}
    assert all(
        mine == (theirs[0], theirs[1] * theirs[2] * theirs[3]) for theirs, mine in shapes.items()
    )


def test_a_frozen_model_is_measured_and_stays_frozen() -> None:
    model = TINY["llama"]()
    free = find_weights(open_source(model))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    frozen = find_weights(open_source(model))
    assert [w.name for w in frozen.measured] == [w.name for w in free.measured]
    assert fingerprints(frozen) == fingerprints(free)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def saved(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Weights:
    torch.save(tensors, tmp_path / "model.pt")
    return find_weights(open_source(tmp_path / "model.pt"))


def test_unknown_layers_are_taken_by_their_axes_and_said(tmp_path: Path) -> None:
    weights = saved(tmp_path, {"blob.zyx.weight": torch.randn(9, 12), "blob.a": torch.randn(3)})
    assert [(w.name, w.note) for w in weights.measured] == [("blob.zyx.weight", BY_SHAPE)]
    assert weights.warnings == (f"1 weight is {BY_SHAPE}: blob.zyx.weight",)


def test_bare_matrices_are_taken_where_there_is_nothing_else(tmp_path: Path) -> None:
    weights = saved(tmp_path, {"a": torch.randn(9, 12), "b": torch.randn(12)})
    assert [(w.name, w.note) for w in weights.measured] == [("a", BY_SHAPE)]


def test_a_fused_weight_of_unknown_layout_is_one_matrix_and_said(tmp_path: Path) -> None:
    weights = saved(tmp_path, {"query_key_value.weight": torch.randn(30, 12)})
    assert [(w.name, w.shape) for w in weights.measured] == [("query_key_value.weight", (30, 12))]
    assert weights.warnings == (f"1 weight is {ONE_MATRIX}: query_key_value.weight",)


def test_tied_weights_count_once(tmp_path: Path) -> None:
    table = torch.randn(50, 12)
    tensors = {"embed_tokens.weight": table, "lm_head.weight": table}
    weights = saved(tmp_path, {**tensors, "fc1.weight": torch.randn(24, 12)})
    assert [w.name for w in weights.measured] == ["fc1.weight"]
    assert weights.left_out == {"embed_tokens.weight": "it is an embedding"}


def test_a_head_without_a_name_is_found_by_the_vocabulary(tmp_path: Path) -> None:
    tensors = {
        "emb.weight": torch.randn(50, 12),
        "a_final.weight": torch.randn(50, 12),
        "z.weight": torch.randn(24, 12),
    }
    weights = saved(tmp_path, tensors)
    assert [w.name for w in weights.measured] == ["z.weight"]
    assert weights.left_out["a_final.weight"] == "it is the output head"


@pytest.mark.parametrize("pattern", ["*.mlp.*", "model.layers.1.self_attn.q_proj.weight"])
def test_patterns_choose(pattern: str) -> None:
    source = open_source(TINY["llama"]())
    every = {w.name for w in find_weights(source).measured}
    taken = {w.name for w in find_weights(source, include=[pattern]).measured}
    left = {w.name for w in find_weights(source, exclude=[pattern]).measured}
    assert taken and taken | left == every and not taken & left


def test_what_holds_no_weight_is_told(tmp_path: Path) -> None:
    for nothing in (torch.randn(3), torch.arange(3)):
        with pytest.raises(InspectError, match=r"x?\.pt holds 1 tensors, and none of them is"):
            saved(tmp_path, {"a": nothing})
    with pytest.raises(InspectError, match="pattern 'x' matches no trainable parameter"):
        find_weights(open_source(nn.Linear(8, 8)), include=["x"])


def test_names_that_no_model_has_do_no_harm(tmp_path: Path) -> None:
    deep = ".".join(["a"] * 5000)
    tensors = {deep: torch.randn(9, 9), "..": torch.randn(9, 9), "x.forward": torch.randn(9, 9)}
    weights = saved(tmp_path, {**tensors, "q_proj.weight": torch.randn(9, 9)})
    assert [w.name for w in weights.measured] == ["q_proj.weight"]
    assert weights.left_out[deep] == "its name has more parts than a model's"


def test_one_tensor_is_read_once_for_all_of_its_parts() -> None:
    source = open_source(TINY["gpt2"]())
    reads: list[str] = []
    for tensor in source.tensors.values():
        load = tensor.load

        def counted(elements: object, name: str = tensor.name, load: object = load) -> object:
            reads.append(name)
            return load(elements)  # type: ignore[operator]

        object.__setattr__(tensor, "load", counted)
    names = [weight.name for weight, _ in matrices(find_weights(source).measured)]
    assert len([n for n in names if "c_attn" in n]) == 6
    assert Counter(reads)["transformer.h.0.attn.c_attn.weight"] == 1


def test_an_adapter_inside_a_layer_hides_nothing(tmp_path: Path) -> None:
    tensors = {
        "layers.0.q_proj.weight": torch.randn(24, 16),
        "layers.0.q_proj.lora_A.weight": torch.randn(8, 16),
        "layers.0.q_proj.lora_B.weight": torch.randn(24, 8),
    }
    assert {w.name for w in saved(tmp_path, tensors).measured} == set(tensors)


def test_names_of_patterns_and_of_wrappers_are_told(tmp_path: Path) -> None:
    same = {"module.q_proj.weight": torch.randn(9, 9), "q_proj.weight": torch.randn(9, 9)}
    weights = saved(tmp_path, {**same, "v[0].weight": torch.randn(9, 9)})
    assert [w.name for w in weights.measured] == ["q_proj.weight"]
    assert set(weights.set_aside) == {"q_proj.weight", "v[0].weight"}
    assert weights.set_aside["v[0].weight"] == "its name holds one of * ? [ ]; rename it"
