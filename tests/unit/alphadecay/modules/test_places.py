"""A model whose weights are replaced after AlphaDecay was made: never decayed as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from alphadecay import AdamW, AlphaDecay
from tests.unit.alphadecay.nets import Plain, shrinkage


def assign(model: Plain) -> None:
    model.load_state_dict(Plain().state_dict(), assign=True)


def tie(model: Plain) -> None:
    model.mix.weight = nn.Parameter(torch.ones(24, 24))


def cut(model: Plain) -> None:
    prune.l1_unstructured(model.mix, "weight", 0.5)


def normalise(model: Plain) -> None:
    weight_norm(model.mix)


@pytest.mark.parametrize("replace", [assign, tie, cut, normalise])
def test_another_tensor_in_a_weights_place_is_refused(replace: Callable[[Plain], None]) -> None:
    model = Plain()
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer)
    shrinkage(model, optimizer)
    decay.step()
    replace(model)
    with pytest.raises(RuntimeError, match=r"\.weight was replaced in the model.*call remove\(\)"):
        decay.step()


def test_the_way_out() -> None:
    model = Plain()
    AlphaDecay(model, AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)).remove()
    assign(model)
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer)
    assert shrinkage(model, optimizer) == {
        name: pytest.approx(1 - 1e-2 * weight_decay, abs=1e-6)
        for name, weight_decay in decay.weight_decays.items()
    }


class Adapted(nn.Module):
    """A frozen layer with an adapter beside it, as PEFT makes of a layer."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = layer.requires_grad_(False)
        self.adapter = nn.Linear(layer.in_features, layer.out_features, bias=False)


@pytest.mark.parametrize("how", ["adapted", "exchanged", "accumulated"])
def test_a_model_that_trains_other_weights_by_now_is_warned_of(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = Plain()
    decay = AlphaDecay(model, AdamW(model.parameters(), lr=1e-2, weight_decay=0.1))
    for name in ("up", "down", "mix"):
        layer = getattr(model, name)
        if how == "adapted":
            setattr(model, name, Adapted(layer))
        if how == "exchanged":
            setattr(model, name, nn.Linear(layer.in_features, layer.out_features, bias=False))
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], weight_decay=0.1)
    for _ in range(40):
        if how != "accumulated":
            shrinkage(model, optimizer)
        decay.step()
    warned = [text for text in caplog.messages if "the model trains none of its weights" in text]
    assert len(warned) == (how != "accumulated")


def test_values_that_are_copied_or_moved_replace_nothing() -> None:
    model = Plain()
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer)
    model.double()
    shrinkage(model, optimizer)
    decay.step()
    model.load_state_dict(Plain().state_dict())
    shrinkage(model, optimizer)
    decay.step()
    assert decay.state_dict()["step"] == 2
