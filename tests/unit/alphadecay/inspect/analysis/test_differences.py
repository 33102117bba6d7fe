"""What changed between two models: a known change comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from alphadecay.inspect.analysis.differences import match
from alphadecay.inspect.diff import diff
from alphadecay.inspect.errors import InspectError
from tests.unit.alphadecay.inspect.tiny import TINY

UP = "model.layers.1.mlp.up_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"


def pair() -> tuple[nn.Module, nn.Module]:
    return TINY["llama"](), TINY["llama"]()


def test_equal_models_differ_in_nothing() -> None:
    difference = diff(*pair())
    assert len(difference.changes) == 14
    assert all(one.delta == one.distance == 0 for one in difference.changes)
    assert not difference.only_first and not difference.only_second and not difference.reshaped


def test_a_changed_weight_comes_first_with_its_change_and_its_distance() -> None:
    before, after = pair()
    weight = after.get_parameter(UP).data
    old = weight.clone()
    weight += torch.randn(weight.shape) @ torch.diag(torch.rand(weight.shape[1]) ** 4) * 0.05
    after.get_parameter(DOWN).data *= 1.5
    difference = diff(before, after)
    first = difference.changes[0]
    assert first.name == UP and abs(first.delta) > 0.05
    assert first.distance == pytest.approx(float((weight - old).norm() / old.norm()), rel=1e-5)
    [scaled] = [one for one in difference.changes if one.name == DOWN]
    # a scale moves a weight and leaves its alpha: eigenvalues in float32
    assert scaled.distance == pytest.approx(0.5, rel=1e-6)
    assert scaled.delta == pytest.approx(0, abs=1e-4)


def test_what_only_one_has_and_other_shapes_are_named() -> None:
    before = nn.ModuleDict({"a": nn.Linear(16, 24), "b": nn.Linear(16, 24), "c": nn.Linear(9, 9)})
    after = nn.ModuleDict({"a": nn.Linear(16, 24), "b": nn.Linear(16, 32), "d": nn.Linear(9, 9)})
    difference = diff(before, after)
    assert [one.name for one in difference.changes] == ["a.weight"]
    assert difference.only_first == ("c.weight",) and difference.only_second == ("d.weight",)
    assert difference.reshaped == {"b.weight": "[24, 16] became [32, 16]"}


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (["a.w", "b.w"], ["b.w", "c.w"], {"b.w": "b.w"}),
        (["h.0.w", "h.1.w"], ["transformer.h.0.w"], {"transformer.h.0.w": "h.0.w"}),
        (
            ["base.model.h.0.w", "base.model.x.w"],
            ["h.0.w", "x.w"],
            {
                "h.0.w": "base.model.h.0.w",
                "x.w": "base.model.x.w",
            },
        ),
        (["a.w"], ["b.v"], {}),
        ([], ["b.v"], {}),
    ],
)
def test_names_are_matched_behind_a_prefix(
    first: list[str], second: list[str], found: dict[str, str]
) -> None:
    assert match(first, second) == found


def test_models_without_a_common_weight_are_told(tmp_path: Path) -> None:
    with pytest.raises(InspectError, match="have no weight in common"):
        diff(nn.ModuleDict({"a": nn.Linear(9, 9)}), nn.ModuleDict({"b": nn.Linear(9, 9)}))


def test_a_broken_weight_of_either_is_set_aside() -> None:
    before, after = pair()
    after.get_parameter(UP).data[0, 0] = torch.inf
    difference = diff(before, after)
    assert len(difference.changes) == 13
    [name] = difference.set_aside
    assert UP in name
