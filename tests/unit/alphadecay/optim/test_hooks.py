"""Decay taken over from other optimizers: once a step, coupled or decoupled as theirs; and hooks of
our own run once.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from alphadecay import Adam, AdamW, AlphaDecay
from alphadecay.optim.decay_kind import is_decoupled

LR = 0.1
DECAY = 0.1


class Scaled(torch.optim.AdamW):
    """A user's own: its step() calls the base class's, whose hooks torch runs again."""

    def step(self, closure: object = None) -> object:
        return super().step(closure)


class OwnSgd(torch.optim.SGD):
    """A subclass under another name."""


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(20, 30, bias=False)


def shrinkage(model: nn.Linear, optimizer: torch.optim.Optimizer) -> float:
    """What a step without a gradient leaves of the weight."""
    before = model.weight.detach().clone()
    model.weight.grad = torch.zeros_like(before)
    optimizer.step()
    return float((model.weight.detach() / before).mean())


@pytest.fixture(autouse=True)
def bases_are_hooked() -> None:
    """torch wraps a class's step() when that class is first instantiated: have it done for the
    bases.
    """
    for base in (torch.optim.Adam, torch.optim.AdamW):
        base(layer().parameters())


def test_a_subclass_that_calls_its_base_decays_once() -> None:
    model = layer()
    optimizer = Scaled(model.parameters(), lr=LR, weight_decay=DECAY)
    decay = AlphaDecay(model, optimizer)
    assert shrinkage(model, optimizer) == pytest.approx(1 - LR * decay.weight_decays["weight"])
    assert shrinkage(model, optimizer) == pytest.approx(1 - LR * decay.weight_decays["weight"])


def test_a_step_that_failed_does_not_silence_the_next() -> None:
    model = layer()
    optimizer = Scaled(model.parameters(), lr=LR, weight_decay=DECAY)
    decay = AlphaDecay(model, optimizer)
    model.weight.grad = torch.zeros_like(model.weight)

    def fails() -> float:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(fails)
    assert shrinkage(model, optimizer) == pytest.approx(1 - LR * decay.weight_decays["weight"])


@pytest.mark.parametrize("kind", [torch.optim.AdamW, AdamW])
def test_a_second_alphadecay_takes_the_place_of_the_first(
    kind: type[torch.optim.Optimizer],
) -> None:
    model = layer()
    optimizer = kind(model.parameters(), lr=LR, weight_decay=DECAY)
    AlphaDecay(model, optimizer)
    decay = AlphaDecay(model, optimizer)
    assert shrinkage(model, optimizer) == pytest.approx(1 - LR * decay.weight_decays["weight"])


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_hooks_and_schedulers_see_one_step_a_step(kind: type[torch.optim.Optimizer]) -> None:
    model = layer()
    seen = []
    optimizer = kind(model.parameters(), lr=LR, weight_decay=DECAY)
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    AlphaDecay(model, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a scheduler warns where it has not seen the optimizer step
        for turn in range(1, 4):
            shrinkage(model, optimizer)
            rates.step()
            assert seen == ["before", "after"] * turn
            assert optimizer.param_groups[0]["lr"] == pytest.approx(LR / (turn + 1))
            assert float(optimizer.state[model.weight]["step"]) == turn


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(OwnSgd, False), (Scaled, True), (torch.optim.Adam, False), (torch.optim.Adafactor, True)],
)
def test_which_decay_is_an_l2_penalty(kind: type[torch.optim.Optimizer], expected: bool) -> None:
    assert is_decoupled(kind(layer().parameters(), lr=LR, weight_decay=DECAY)) is expected


def test_adam_told_to_decouple_is_decoupled() -> None:
    assert is_decoupled(
        torch.optim.NAdam(layer().parameters(), weight_decay=DECAY, decoupled_weight_decay=True)
    )


@pytest.mark.parametrize("kind", [torch.optim.AdamW, AdamW])
def test_a_checkpoint_says_the_base_decay(kind: type[torch.optim.Optimizer]) -> None:
    """What reads it without AlphaDecay, or drops the keys that AlphaDecay adds, goes on with the
    base decay and not with none.
    """
    model = layer()
    optimizer = kind(model.parameters(), lr=LR, weight_decay=DECAY)
    decay = AlphaDecay(model, optimizer)
    saved = optimizer.state_dict()
    assert [group["weight_decay"] for group in saved["param_groups"]] == [DECAY]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [DECAY]
    optimizer.load_state_dict(saved)
    assert shrinkage(model, optimizer) == pytest.approx(1 - LR * decay.weight_decays["weight"])


def test_a_step_captured_in_a_cuda_graph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = layer()
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    decay = AlphaDecay(model, optimizer)
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        patched.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with pytest.raises(RuntimeError, match="cannot be captured in a CUDA graph with AdamW"):
            optimizer.step()
    assert optimizer.param_groups[0]["weight_decay"] == DECAY
    assert shrinkage(model, optimizer) == pytest.approx(1 - LR * decay.weight_decays["weight"])


def test_a_subclass_that_fails_inside_its_own_step_decays_at_the_next() -> None:
    """Outside of its base's step: the inner hooks have not run then."""

    class Fragile(torch.optim.AdamW):
        broken = False

        def step(self, closure: object = None) -> object:
            if self.broken:
                raise RuntimeError("not yet")
            return super().step(closure)

    model = layer()
    optimizer = Fragile(model.parameters(), lr=LR, weight_decay=DECAY)
    decay = AlphaDecay(model, optimizer)
    optimizer.broken = True
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not yet"):
            optimizer.step()
    optimizer.broken = False
    for _ in range(2):
        expected = pytest.approx(1 - LR * decay.weight_decays["weight"])
        assert shrinkage(model, optimizer) == expected


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_a_users_hook_before_the_step_runs_before_the_decay(
    kind: type[torch.optim.Optimizer],
) -> None:
    """A schedule of the decay and a clipping of gradients, registered after AlphaDecay."""
    model = layer()
    twin = layer()
    optimizer = kind(model.parameters(), lr=LR, weight_decay=DECAY)
    decay = AlphaDecay(model, optimizer, control="fixed_ratio", ratios={"*": 2.0})
    plain = kind(twin.parameters(), lr=LR, weight_decay=0.0)

    def clip_and_set(stepping: torch.optim.Optimizer, *_: object) -> None:
        group = stepping.param_groups[0]
        group["weight_decay"] = 0.3 if stepping is optimizer else 2 * 0.3
        group["params"][0].grad.clamp_(-1e-3, 1e-3)

    for each in (optimizer, plain):
        each.register_step_pre_hook(clip_and_set)
    for _ in range(3):
        for each in (model, twin):
            each.weight.grad = torch.ones_like(each.weight)
        optimizer.step()
        plain.step()
        torch.testing.assert_close(model.weight, twin.weight, rtol=1e-6, atol=1e-7)
    decay.remove()
    assert "register_step_pre_hook" not in vars(optimizer)
    assert len(optimizer._optimizer_step_pre_hooks) == 1


class MainGrad(torch.optim.SGD):
    """Takes its gradients from where Megatron's and some fused optimizers keep them."""

    @torch.no_grad()
    def step(self, closure: object = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.add_(parameter.main_grad, alpha=-LR)


def test_an_optimizer_with_gradients_elsewhere_is_noticed() -> None:
    model = layer()
    model.weight.main_grad = torch.ones_like(model.weight)
    optimizer = MainGrad(model.parameters(), lr=LR, weight_decay=DECAY)
    AlphaDecay(model, optimizer, decoupled=True)
    with pytest.raises(RuntimeError, match=r"MainGrad has stepped weights none of which has a"):
        optimizer.step()


def test_a_step_without_any_gradient_is_none_to_complain_of() -> None:
    model = layer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    decay = AlphaDecay(model, optimizer)
    before = model.weight.detach().clone()
    optimizer.step()
    decay.step()
    assert torch.equal(model.weight, before)
