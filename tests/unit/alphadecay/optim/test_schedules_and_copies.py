"""The group's own weight decay is the user's between steps: schedules, loads, copies, leaving."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from alphadecay import Adam, AdamW, AlphaDecay
from tests.unit.alphadecay.nets import Plain, shrinkage

LR = 1e-2
BASE = 0.1
KINDS = [AdamW, torch.optim.AdamW]


def watched(kind: Any, base: float = BASE) -> tuple[nn.Module, torch.optim.Optimizer, AlphaDecay]:
    model = Plain()
    optimizer = kind(model.parameters(), lr=LR, weight_decay=base)
    return model, optimizer, AlphaDecay(model, optimizer)


def expected(decay: AlphaDecay, base: float) -> dict[str, float]:
    """1 - lr * ratio * base, of every module."""
    ratios = {name: module["ratio"] for name, module in decay.state_dict()["modules"].items()}
    return {name: pytest.approx(1 - LR * ratio * base, abs=1e-6) for name, ratio in ratios.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_of_the_weight_decay_to_zero_and_back(kind: Any) -> None:
    model, optimizer, decay = watched(kind)
    assert len(set(decay.weight_decays.values())) == 3
    for base in (0.1, 0.05, 0.0, 0.2):
        optimizer.param_groups[0]["weight_decay"] = base
        assert decay.weight_decays == {
            name: pytest.approx(module["ratio"] * base)
            for name, module in decay.state_dict()["modules"].items()
        }
        assert shrinkage(model, optimizer) == expected(decay, base)
        assert optimizer.param_groups[0]["weight_decay"] == base
    optimizer.param_groups[0]["weight_decay"] *= 0.5
    assert shrinkage(model, optimizer) == expected(decay, 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_that_begins_at_zero(kind: Any) -> None:
    model = Plain()
    optimizer = kind(model.parameters(), lr=LR, weight_decay=0.0)
    with pytest.raises(ValueError, match="begins at 0, make AlphaDecay while the groups hold its"):
        AlphaDecay(model, optimizer)
    optimizer.param_groups[0]["weight_decay"] = BASE
    decay = AlphaDecay(model, optimizer)
    for base in (0.0, 0.05, BASE):
        optimizer.param_groups[0]["weight_decay"] = base
        assert shrinkage(model, optimizer) == expected(decay, base)


@pytest.mark.parametrize("kind", KINDS)
def test_the_optimizers_own_decay_is_zero_inside_a_step_alone(kind: Any) -> None:
    _, optimizer, _ = watched(kind)
    seen = []

    def look(*_: Any) -> None:
        seen.append(optimizer.param_groups[0]["weight_decay"])

    optimizer.register_step_pre_hook(look)
    optimizer.register_step_post_hook(look)
    optimizer.step(look)
    assert seen == [BASE, 0.0, BASE]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_fails_gives_the_decay_back_to_whoever_saves(kind: Any) -> None:
    model, optimizer, decay = watched(kind)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter).to_sparse()  # which torch's AdamW refuses
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert optimizer.state_dict()["param_groups"][0]["weight_decay"] == BASE
    assert shrinkage(model, optimizer) == expected(decay, BASE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_with_another_base(kind: Any) -> None:
    model, optimizer, decay = watched(kind, base=0.2)
    optimizer.load_state_dict(kind(Plain().parameters(), lr=LR, weight_decay=0.1).state_dict())
    assert shrinkage(model, optimizer) == expected(decay, 0.1)
    decay.refresh()
    assert max(decay.weight_decays.values()) == pytest.approx(5 * 0.1)


@pytest.mark.parametrize("kind", [*KINDS, Adam, torch.optim.Adam])
@pytest.mark.parametrize("how", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_decays_by_itself(kind: Any, how: Any) -> None:
    model, optimizer, _ = watched(kind)
    twin, twins = how((model, optimizer))
    plain = Plain()
    stock = kind(plain.parameters(), lr=LR, weight_decay=BASE)
    assert shrinkage(twin, twins) == shrinkage(plain, stock)
    fresh = kind([plain.up.weight], **{"weight_decay": optimizer.param_groups[0]["weight_decay"]})
    assert fresh.param_groups[0]["weight_decay"] == BASE


@pytest.mark.parametrize("kind", [*KINDS, Adam, torch.optim.SGD])
@pytest.mark.parametrize("fused", [False, True])
def test_remove_gives_the_optimizer_back(kind: Any, fused: bool) -> None:
    model = Plain()
    twin = Plain()
    options: dict[str, Any] = {"lr": LR, "weight_decay": BASE, "fused": fused}
    optimizer = kind(model.parameters(), **options)
    before = {key: repr(value) for key, value in vars(optimizer).items()}
    decay = AlphaDecay(model, optimizer)
    decay.remove()
    assert {key: repr(value) for key, value in vars(optimizer).items()} == before
    assert shrinkage(model, optimizer) == shrinkage(twin, kind(twin.parameters(), **options))
    AlphaDecay(model, optimizer)


def test_a_checkpoint_of_version_0_1_goes_on_with_the_same_decays() -> None:
    """It held decays, and kept the groups' own decay under another key while it left them 0."""
    _, optimizer, decay = watched(AdamW)
    expected = decay.weight_decays
    state = decay.state_dict()
    modules = {
        name: {key: value for key, value in saved.items() if key != "ratio"}
        | {"weight_decay": expected[name]}
        for name, saved in state["modules"].items()
    }
    for group in optimizer.param_groups:
        group["base_weight_decay"] = group["weight_decay"]
        group["weight_decay"] = 0.0
    decay.load_state_dict({**state, "version": 1, "modules": modules})
    assert decay.weight_decays == pytest.approx(expected, rel=1e-15)
    assert all("base_weight_decay" not in group for group in optimizer.param_groups)


def test_a_state_of_an_unknown_version_is_refused() -> None:
    _, _, decay = watched(AdamW)
    with pytest.raises(ValueError, match="has version 9, this library reads 2"):
        decay.load_state_dict({**decay.state_dict(), "version": 9})


@pytest.mark.parametrize("how", ["reversed", "merged", "emptied"])
def test_groups_that_are_changed_later(how: str) -> None:
    """Each module takes the decay of the group that holds it now, and says so."""
    model = Plain()
    up, down, mix = (model.get_parameter(f"{name}.weight") for name in ("up", "down", "mix"))
    groups = [
        {"params": [up, down], "weight_decay": 0.1},
        {"params": [mix], "weight_decay": 0.3},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    decay = AlphaDecay(model, optimizer)
    ratios = {name: saved["ratio"] for name, saved in decay.state_dict()["modules"].items()}
    bases = {"up.weight": 0.1, "down.weight": 0.1, "mix.weight": 0.3}
    if how == "reversed":
        optimizer.param_groups.reverse()
    else:
        moved = optimizer.param_groups.pop()
        optimizer.param_groups[0]["params"] += moved["params"] if how == "merged" else []
        bases["mix.weight"] = 0.1 if how == "merged" else 0.0
    assert decay.weight_decays == {name: ratios[name] * bases[name] for name in bases}
    assert shrinkage(model, optimizer) == {
        name: pytest.approx(1 - LR * weight_decay, abs=1e-6)
        for name, weight_decay in decay.weight_decays.items()
    }


@pytest.mark.parametrize("how", [copy.deepcopy, pickle.dumps])
def test_alphadecay_itself_is_not_copied(how: Any) -> None:
    """A copy would hook nothing, and go on reporting decays."""
    _, _, decay = watched(AdamW)
    with pytest.raises(TypeError, match=r"cannot be copied or pickled: keep its state_dict\(\)"):
        how({"decay": decay})


def test_weights_that_are_loaded_before_the_first_step_are_noticed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, optimizer, decay = watched(AdamW)
    model.load_state_dict(Plain().state_dict())
    shrinkage(model, optimizer)
    assert "the weights were written to after AlphaDecay measured them" in caplog.text
    caplog.clear()
    model, optimizer, decay = watched(AdamW)
    model.load_state_dict(Plain().state_dict())
    decay.load_state_dict(decay.state_dict())
    shrinkage(model, optimizer)
    shrinkage(model, optimizer)
    assert "written to" not in caplog.text


@pytest.mark.parametrize("call", [AlphaDecay.step, AlphaDecay.refresh])
def test_what_was_removed_says_so_at_once(call: Any) -> None:
    model, optimizer, decay = watched(AdamW)
    figures = decay.weight_decays
    decay.remove()
    decay.remove()
    shrinkage(model, optimizer)
    with pytest.raises(RuntimeError, match=r"remove\(\) was called, so that nothing is decayed by"):
        call(decay)
    assert decay.weight_decays == figures
