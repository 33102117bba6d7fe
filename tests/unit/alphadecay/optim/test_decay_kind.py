"""What optimizers do with weight decay, measured on twins; against classes that do it by hand."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alphadecay import AlphaDecay
from alphadecay.optim.decay_kind import is_decoupled
from tests.unit.alphadecay.nets import Plain, shrinkage

LR = 0.1
DECAY = 0.1
Update = Callable[[Tensor, Tensor, float, float], None]


class ByHand(torch.optim.Optimizer):
    """An optimizer of a class that no table knows."""

    rule: Update

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    type(self).rule(p, p.grad, group["lr"], group["weight_decay"])


def by_hand(rule: Update) -> type[torch.optim.Optimizer]:
    return type("Handmade", (ByHand,), {"rule": staticmethod(rule)})


def sign_then_shrink(w: Tensor, g: Tensor, lr: float, decay: float) -> None:
    """Lion's order the other way round: the update first."""
    w.add_(g.sign(), alpha=-lr)
    w.mul_(1 - lr * decay)


def shrink_then_sign(w: Tensor, g: Tensor, lr: float, decay: float) -> None:
    w.mul_(1 - lr * decay)
    w.add_(g.sign(), alpha=-lr)


def normalised_penalty(w: Tensor, g: Tensor, lr: float, decay: float) -> None:
    """An L2 penalty whose sum with the gradient is normalised, as NovoGrad's kind does."""
    g = g + decay * w
    w.add_(g / g.norm().clamp(min=1e-12), alpha=-lr)


def without_lr(w: Tensor, g: Tensor, lr: float, decay: float) -> None:
    w.mul_(1 - decay)
    w.add_(g, alpha=-lr)


def by_trust_ratio(w: Tensor, g: Tensor, lr: float, decay: float) -> None:
    """LARS: the ratio of norms, in which the decay takes part, scales the decay too."""
    ratio = w.norm() / (g.norm() + decay * w.norm()).clamp(min=1e-12)
    w.add_((g + decay * w) * ratio, alpha=-lr)


def by_tiny_factor(w: Tensor, g: Tensor, lr: float, decay: float) -> None:
    """Prodigy: lr times an estimate that begins at 1e-6."""
    w.mul_(1 - 1e-6 * lr * decay)
    w.add_(g, alpha=-1e-6 * lr)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [(shrink_then_sign, True), (sign_then_shrink, True), (normalised_penalty, False)],
)
def test_what_can_be_taken_over(rule: Update, expected: bool) -> None:
    kind = by_hand(rule)
    model = Plain()
    optimizer = kind(model.parameters(), lr=LR, weight_decay=DECAY)
    assert is_decoupled(optimizer) is expected
    decay = AlphaDecay(model, optimizer)
    twin = Plain()
    groups = [
        {"params": [p], "weight_decay": decay.weight_decays[name]}
        for name, p in twin.named_parameters()
    ]
    plain = kind(groups, lr=LR)
    assert shrinkage(model, optimizer) == pytest.approx(shrinkage(twin, plain), rel=1e-5)


class ByFirstLr(ByHand):
    """Decays by lr² over the first lr: the same as by lr until a schedule lowers it."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, weight_decay)
        self.first = lr

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"] ** 2 / self.first * group["weight_decay"])


def test_a_decay_that_follows_the_schedule_otherwise_is_refused() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    with pytest.raises(ValueError, match="ByFirstLr is not understood"):
        is_decoupled(ByFirstLr([weight], lr=LR, weight_decay=DECAY))


@pytest.mark.parametrize(
    ("rule", "seen"),
    [(without_lr, "0.5"), (by_trust_ratio, "0.99"), (by_tiny_factor, "1")],
)
def test_what_decays_otherwise_is_refused_with_what_was_seen(rule: Update, seen: str) -> None:
    model = Plain()
    optimizer = by_hand(rule)(model.parameters(), lr=LR, weight_decay=DECAY)
    with pytest.raises(ValueError, match=rf"Handmade is not understood.* leaves {seen} of a"):
        AlphaDecay(model, optimizer)
    assert not optimizer._optimizer_step_pre_hooks
    AlphaDecay(model, optimizer, decoupled=True)


def test_a_class_that_cannot_be_tried_asks_to_be_told() -> None:
    class Demanding(ByHand):
        def __init__(self, params: Any, mesh: object, **options: Any) -> None:
            super().__init__(params, **options)

    model = Plain()
    optimizer = Demanding(model.parameters(), object(), lr=LR, weight_decay=DECAY)
    type(optimizer).rule = staticmethod(shrink_then_sign)
    with pytest.raises(ValueError, match=r"what Demanding does.*say decoupled=True"):
        AlphaDecay(model, optimizer)
    decay = AlphaDecay(model, optimizer, decoupled=True)
    left = shrinkage(model, optimizer)
    for name, weight_decay in decay.weight_decays.items():
        assert left[name] == pytest.approx(1 - LR * weight_decay, abs=1e-6)


def test_a_subclass_of_torchs_with_a_step_of_its_own_is_measured() -> None:
    class DecoupledSgd(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(1 - group["lr"] * group["weight_decay"])

    weight = nn.Parameter(torch.ones(4, 4))
    assert is_decoupled(DecoupledSgd([weight], lr=LR, weight_decay=DECAY)) is True
    assert is_decoupled(torch.optim.SGD([weight], lr=LR, weight_decay=DECAY)) is False


def test_trying_leaves_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    kind = by_hand(shrink_then_sign)
    is_decoupled(kind([nn.Parameter(torch.ones(2, 2))], lr=LR, weight_decay=DECAY))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("options", "understood"),
    [
        ({"lr": 1e-2, "scale_parameter": False, "relative_step": False}, True),
        ({"lr": 1e-2, "scale_parameter": True, "relative_step": False}, False),
    ],
)
def test_transformers_adafactor(options: dict[str, Any], understood: bool) -> None:
    optimization = pytest.importorskip("transformers.optimization", reason="needs transformers")
    weight = nn.Parameter(torch.randn(16, 16))
    optimizer = optimization.Adafactor([weight], weight_decay=DECAY, **options)
    if understood:
        assert is_decoupled(optimizer) is True
        return
    with pytest.raises(ValueError, match="Adafactor is not understood"):
        is_decoupled(optimizer)


@pytest.mark.parametrize("decoupled", [None, True])
def test_an_optimizer_that_sets_its_own_step_size_is_refused(decoupled: bool | None) -> None:
    optimization = pytest.importorskip("transformers.optimization", reason="needs transformers")
    model = Plain()
    optimizer = optimization.Adafactor(model.parameters(), weight_decay=DECAY, lr=None)
    with pytest.raises(ValueError, match=r"Adafactor sets its own step size \(lr is None\)"):
        AlphaDecay(model, optimizer, decoupled=decoupled)
    assert not optimizer._optimizer_step_pre_hooks


def test_torchtitans_muon_is_known_and_not_tried() -> None:
    """It takes its parameters' sharding, which a small weight does not have."""

    class DistMuon(ByHand):
        def __init__(self, params: Any, compute_sharding_by_fqn: object, **options: Any) -> None:
            super().__init__(params, **options)

        def step(self, closure: Any = None) -> None:
            super().step(closure)

    inspect.unwrap(DistMuon.step).__module__ = "torchtitan.distributed.flex_shard.dist_muon"
    optimizer = DistMuon([nn.Parameter(torch.ones(4, 4))], {}, lr=LR, weight_decay=DECAY)
    assert is_decoupled(optimizer) is True


def test_groups_of_torchs_adam_that_decay_in_two_ways_are_refused() -> None:
    model = Plain()
    up, *rest = model.parameters()
    groups = [{"params": [up], "decoupled_weight_decay": True}, {"params": rest}]
    optimizer = torch.optim.Adam(groups, lr=LR, weight_decay=DECAY)
    with pytest.raises(ValueError, match=r"Adam shrinks the weights of one param group and adds"):
        AlphaDecay(model, optimizer)


class ByGroup(torch.optim.Optimizer):
    """Two rules in one, as Muon with an auxiliary Adam: each group says which, and no argument."""

    def __init__(self, param_groups: list[dict[str, Any]]) -> None:
        for group in param_groups:
            assert set(group) == {"params", "lr", "weight_decay", "shrinks"}
        super().__init__(param_groups, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if group["shrinks"]:
                    shrink_then_sign(p, p.grad, group["lr"], group["weight_decay"])
                else:
                    normalised_penalty(p, p.grad, group["lr"], group["weight_decay"])


@pytest.mark.parametrize(
    ("shrinks", "expected"), [([True, True], True), ([False, False], False), ([True, False], None)]
)
def test_each_kind_of_group_is_tried(shrinks: list[bool], expected: bool | None) -> None:
    groups = [
        {"params": [nn.Parameter(torch.ones(4, 4))], "lr": lr, "weight_decay": DECAY, "shrinks": s}
        for s, lr in zip(shrinks, (LR, LR / 2), strict=True)
    ]
    optimizer = ByGroup(groups)
    torch.optim.lr_scheduler.ConstantLR(optimizer)  # leaves an initial_lr in the groups
    if expected is None:
        with pytest.raises(ValueError, match="give all groups the same, or make two optimizers"):
            is_decoupled(optimizer)
        return
    assert is_decoupled(optimizer) is expected


def test_apexs_lamb_is_no_adamw_by_its_mode() -> None:
    """Its adam_w_mode says where the decay enters the trust ratio, which scales it."""

    class FusedLAMB(ByHand):
        adam_w_mode = 1
        rule = staticmethod(by_trust_ratio)

        def step(self, closure: Any = None) -> None:
            super().step(closure)

    inspect.unwrap(FusedLAMB.step).__module__ = "apex.optimizers.fused_lamb"
    with pytest.raises(ValueError, match="FusedLAMB is not understood"):
        is_decoupled(FusedLAMB([nn.Parameter(torch.ones(4, 4))], lr=LR, weight_decay=DECAY))
