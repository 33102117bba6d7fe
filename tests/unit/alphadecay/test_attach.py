"""One map over all optimizers of a model; what cannot be decayed rightly is refused by name."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

from alphadecay import AdamW, AlphaDecay
from alphadecay.baselines.gradient_decay import GradientDecay
from alphadecay.baselines.uniform import bind_uniform
from tests.unit.alphadecay.nets import Plain, shrinkage

LR = 1e-2
needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")


class Language(nn.Module):
    """An embedding, matrices of three shapes, a norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(40, 32)
        self.q = nn.Linear(32, 32, bias=False)
        self.up = nn.Linear(32, 64, bias=False)
        self.down = nn.Linear(64, 32, bias=False)
        self.norm = nn.LayerNorm(32)
        self.lm_head = nn.Linear(32, 40, bias=False)


def split(
    model: Language, matrices: list[str], adamw: Any = torch.optim.AdamW
) -> list[torch.optim.Optimizer]:
    """Muon for these matrices, an AdamW for everything else."""
    named = dict(model.named_parameters())
    rest = [p for name, p in named.items() if name not in matrices]
    muon = torch.optim.Muon([named[name] for name in matrices], lr=LR, weight_decay=0.1)
    return [muon, adamw(rest, lr=1e-3, weight_decay=0.3)]


@needs_muon
@pytest.mark.parametrize("adamw", [torch.optim.AdamW, AdamW])
@pytest.mark.parametrize(
    "matrices", [["q.weight", "up.weight", "down.weight"], ["q.weight"]], ids=["all", "some"]
)
def test_one_map_over_muon_and_adamw(matrices: list[str], adamw: Any) -> None:
    alone = Language()
    reference = AlphaDecay(alone, AdamW(alone.parameters(), weight_decay=1.0)).weight_decays
    model = Language()
    optimizers = split(model, matrices, adamw)
    decay = AlphaDecay(model, optimizers)
    base = {name: 0.1 if name in matrices else 0.3 for name in reference}
    assert decay.weight_decays == {n: pytest.approx(r * base[n]) for n, r in reference.items()}
    left = shrinkage(model, *optimizers)
    for name, weight_decay in decay.weight_decays.items():
        lr = LR if name in matrices else 1e-3
        assert left[name] == pytest.approx(1 - lr * weight_decay, abs=1e-6), name
    assert left["norm.weight"] == 1.0
    for name in ("embed.weight", "lm_head.weight"):
        assert left[name] == pytest.approx(1 - 1e-3 * 0.3, abs=1e-6)
    decay.remove()
    assert shrinkage(model, *optimizers)["norm.weight"] == pytest.approx(1 - 1e-3 * 0.3)


@needs_muon
def test_steps_of_two_optimizers_count_once() -> None:
    model = Language()
    optimizers = split(model, ["q.weight", "up.weight"])
    decay = AlphaDecay(model, optimizers, interval=3)
    refreshed = []
    for _ in range(6):
        shrinkage(model, *optimizers)
        refreshed.append(decay.step())
    assert refreshed == [False, True, False, False, True, False]


@needs_muon
def test_weights_that_no_given_optimizer_holds_are_said(caplog: Any) -> None:
    model = Language()
    muon, _ = split(model, ["q.weight", "up.weight", "down.weight"])
    with caplog.at_level(logging.WARNING, "alphadecay"):
        AlphaDecay(model, muon)
    assert "4 trainable weights are in no optimizer" in caplog.text


@needs_muon
def test_decay_from_gradients_takes_one_optimizer() -> None:
    model = Language()
    optimizers = split(model, ["q.weight"])
    with pytest.raises(ValueError, match="2 optimizers take one each: use one optimizer"):
        GradientDecay(model, optimizers, rule="awd")
    assert all(not each._optimizer_step_pre_hooks for each in optimizers)


def test_a_second_one_is_refused_until_the_first_is_removed() -> None:
    model = Plain()
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=0.1)
    first = AlphaDecay(model, optimizer, include=["up*"])
    for given in (optimizer, torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1)):
        with pytest.raises(ValueError, match=r"shape \[96, 24\] has an AlphaDecay already"):
            AlphaDecay(model, given, include=["down*"])
    left = shrinkage(model, optimizer)
    assert left["up.weight"] == pytest.approx(1 - LR * first.weight_decays["up.weight"], abs=1e-6)
    first.remove()
    second = AlphaDecay(model, optimizer, include=["down*"])
    left = shrinkage(model, optimizer)
    assert left["down.weight"] == pytest.approx(
        1 - LR * second.weight_decays["down.weight"], abs=1e-6
    )


def test_two_over_disjoint_optimizers_of_one_model_are_refused() -> None:
    model = Plain()
    up = AdamW(model.up.parameters(), lr=LR, weight_decay=0.1)
    rest = [p for name, p in model.named_parameters() if not name.startswith("up")]
    others = AdamW(rest, lr=LR, weight_decay=0.1)
    first = AlphaDecay(model, up, include=["up*"])
    names = ["down*", "mix*"]
    with pytest.raises(ValueError, match=r"up\.weight, in another .*\(model, \[muon, adamw\]\)"):
        AlphaDecay(model, others, include=names)
    assert not others._optimizer_step_pre_hooks
    first.remove()
    AlphaDecay(model, others, include=names)


def test_two_models_that_train_together_have_one_each() -> None:
    class Distilled(nn.Module):
        def __init__(self, teacher: nn.Module) -> None:
            super().__init__()
            self.teacher = teacher
            self.student = Plain()

    teacher, other = Plain(), Plain()
    held = [
        AlphaDecay(each, AdamW(each.parameters(), weight_decay=0.1)) for each in (teacher, other)
    ]
    both = Distilled(teacher.requires_grad_(False))
    decay = AlphaDecay(both, AdamW(both.student.parameters(), weight_decay=0.1))
    expected = list(decay.weight_decays.values())
    assert [list(each.weight_decays.values()) for each in held] == [expected, expected]


def test_one_that_nobody_holds_gives_way() -> None:
    model = Plain()
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=0.1)
    bind_uniform(model, optimizer)
    decay = AlphaDecay(model, optimizer)
    left = shrinkage(model, optimizer)
    assert left["up.weight"] == pytest.approx(1 - LR * decay.weight_decays["up.weight"], abs=1e-6)


def test_a_construction_that_fails_leaves_the_optimizer_as_it_was() -> None:
    model = Plain()
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=0.1)
    with pytest.raises(ValueError, match="no pattern matches it"):
        AlphaDecay(model, optimizer, control="fixed_ratio", ratios={"up*": 1.0})
    assert not optimizer._optimizer_step_pre_hooks
    AlphaDecay(model, optimizer)


def test_weights_that_are_not_the_models_or_are_held_twice() -> None:
    model = Plain()
    both = [*model.parameters(), *nn.Linear(5, 7, bias=False).parameters()]
    with pytest.raises(ValueError, match=r"shape \[7, 5\] that Plain does not have"):
        AlphaDecay(model, AdamW(both, weight_decay=0.1))
    one = AdamW(model.parameters(), weight_decay=0.1)
    other = AdamW(model.up.parameters(), weight_decay=0.1)
    with pytest.raises(ValueError, match=r"two optimizers hold up\.weight"):
        AlphaDecay(model, [one, other])


def test_a_decay_that_turns_the_sign_is_refused_at_the_step() -> None:
    model = Plain()
    optimizer = AdamW(model.parameters(), lr=1.0, weight_decay=0.5)
    AlphaDecay(model, optimizer)
    with pytest.raises(
        ValueError, match=r"up.weight: learning rate 1.0 times weight decay 2.24.* is at"
    ):
        shrinkage(model, optimizer)
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    optimizer.param_groups[0]["lr"] = 0.1
    shrinkage(model, optimizer)


def test_16_bits_are_refused_only_where_something_decays() -> None:
    model = Plain(norm=True)
    model.norm.bfloat16()
    AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
    language = Language()
    language.embed.bfloat16()
    rest = [p for name, p in language.named_parameters() if name != "embed.weight"]
    groups: list[Any] = [{"params": rest}, {"params": [language.embed.weight], "weight_decay": 0.0}]
    optimizer = AdamW(groups, weight_decay=0.1)
    AlphaDecay(language, optimizer)
    optimizer.param_groups[1]["weight_decay"] = 0.1  # a schedule sets it later
    with pytest.raises(ValueError, match=r"bfloat16, in which decay is lost.*dtype=torch\.float32"):
        shrinkage(language, optimizer)


class TestTheNet:
    """step() notices optimizer steps that were not decayed, and counts what was stepped."""

    def test_calls_without_an_optimizer_step_count_for_nothing(self) -> None:
        model = Plain()
        optimizer = AdamW(model.parameters(), weight_decay=0.1)
        decay = AlphaDecay(model, optimizer, interval=4)
        refreshed = []
        for micro in range(1, 33):
            if micro % 4 == 0:
                shrinkage(model, optimizer)
            if decay.step():
                refreshed.append(micro // 4)
        assert refreshed == [3, 7]  # after step 3, for step 4

    def test_a_call_for_several_steps_misses_no_refresh(self) -> None:
        model = Plain()
        optimizer = AdamW(model.parameters(), weight_decay=0.1)
        decay = AlphaDecay(model, optimizer, interval=3)
        shrinkage(model, optimizer)
        assert not decay.step()
        for _ in range(3):
            shrinkage(model, optimizer)
        assert decay.step() and decay.last_refresh_step == 5

    def test_hooks_that_are_gone(self) -> None:
        model = Plain()
        optimizer = AdamW(model.parameters(), weight_decay=0.1)
        decay = AlphaDecay(model, optimizer)
        optimizer._optimizer_step_pre_hooks.clear()
        shrinkage(model, optimizer)
        with pytest.raises(RuntimeError, match="the hooks of AdamW have not decayed them"):
            decay.step()

    def test_another_optimizer_steps(self) -> None:
        model = Plain()
        decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
        other = AdamW(model.parameters(), weight_decay=0.1)
        shrinkage(model, other)
        decay.step()  # this once it could be weights that were loaded
        shrinkage(model, other)
        with pytest.raises(RuntimeError, match="another optimizer updates them"):
            decay.step()

    @needs_muon
    def test_another_optimizer_steps_in_the_place_of_one_of_two(self) -> None:
        model = Language()
        muon, adamw = split(model, ["q.weight", "up.weight", "down.weight"])
        decay = AlphaDecay(model, [muon, adamw])
        other = split(model, ["q.weight", "up.weight", "down.weight"])[1]
        shrinkage(model, muon, other)
        decay.step()
        shrinkage(model, muon, other)
        with pytest.raises(RuntimeError, match="the hooks of AdamW have not decayed them"):
            decay.step()

    def test_weights_that_are_loaded_between_steps(self) -> None:
        model = Plain()
        optimizer = AdamW(model.parameters(), weight_decay=0.1)
        decay = AlphaDecay(model, optimizer)
        for _ in range(3):
            model.load_state_dict(Plain().state_dict())
            decay.step()
            shrinkage(model, optimizer)
            decay.step()

    def test_steps_before_the_first_call_all_count(self) -> None:
        model = Plain()
        optimizer = AdamW(model.parameters(), weight_decay=0.1)
        decay = AlphaDecay(model, optimizer, interval=4)
        shrinkage(model, optimizer, optimizer)
        decay.step()
        assert decay.state_dict()["step"] == 2

    def test_the_step_by_which_a_checkpoint_makes_the_state_does_not_count(self) -> None:
        model = Plain()
        optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1)
        decay = AlphaDecay(model, optimizer, interval=4)
        before = [p.detach().clone() for p in model.parameters()]
        get_optimizer_state_dict(model, optimizer)
        assert optimizer.state  # it took a step
        assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
        assert not decay.step()
        assert decay.state_dict()["step"] == 0
        for _ in range(3):
            shrinkage(model, optimizer)
        assert decay.step() and decay.last_refresh_step == 4

    def test_a_warm_up_from_a_learning_rate_of_0_counts(self) -> None:
        model = Plain()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.1)
        decay = AlphaDecay(model, optimizer)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        decay.step()
        assert decay.state_dict()["step"] == 1
