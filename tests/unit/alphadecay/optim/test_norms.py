"""LAWN's and Hyperball's steps against their formulas, written with whole matrices in float64 and
with the update that the same optimizer makes from the same weights and state.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alphadecay import AdamW
from alphadecay.baselines.fixed_norms import FixedNorms
from alphadecay.optim import SGD, copies
from alphadecay.sharding.base import Sharding

LR = 0.05
SCALE = 3.0
FREE = 2
STEPS = 5


class Conv1D(nn.Module):
    """A linear weight stored [in, out], as transformers' GPT-2 has: parts of it are strided."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / 5)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def model_of() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Linear(24, 40), nn.LayerNorm(40), Conv1D(40, 24))
    return nn.Sequential(*layers).double()


SPLITS = {"2.weight": {"a": 16, "b": 8}}


def matrices(model: nn.Module, grad: bool = False) -> list[Tensor]:
    """The modules' whole matrices, as views."""
    first, second = (p.grad if grad else p.detach() for p in (model[0].weight, model[2].weight))
    return [first, second[:, :16], second[:, 16:]]


def loss_of(model: nn.Module, step: int) -> Tensor:
    batch = torch.randn(8, 24, generator=torch.Generator().manual_seed(step)).double()
    loss: Tensor = (model(batch) - batch.flip(1)).square().mean()
    return loss


def normalised(x: Tensor) -> Tensor:
    return x / x.square().sum().sqrt()


@torch.no_grad()
def hyperball(optimizer: torch.optim.Optimizer, model: nn.Module, radii: list[Tensor]) -> None:
    before = [matrix.clone() for matrix in matrices(model)]
    optimizer.step()
    for matrix, old, radius in zip(matrices(model), before, radii, strict=True):
        update = (old - matrix) / LR
        moved = old - LR * SCALE * radius * normalised(update)
        matrix.copy_(radius * normalised(moved))


@torch.no_grad()
def lawn(optimizer: torch.optim.Optimizer, model: nn.Module, radii: list[Tensor]) -> None:
    for weight, gradient in zip(matrices(model), matrices(model, grad=True), strict=True):
        outward = normalised(weight)
        gradient -= (gradient * outward).sum() * outward
    optimizer.step()
    for matrix, radius in zip(matrices(model), radii, strict=True):
        matrix.copy_(radius * normalised(matrix))


def kinds() -> list[Any]:
    return [AdamW, torch.optim.AdamW, SGD, torch.optim.RMSprop]


def radii_of(model: nn.Module) -> list[Tensor]:
    return [matrix.square().sum().sqrt() for matrix in matrices(model)]


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("chunk", [1 << 16, 100])
def test_hyperball_equals_the_formula(
    kind: Any, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_CHUNK", chunk)
    model = model_of()
    plain = copy.deepcopy(model)
    optimizer = kind(model.parameters(), lr=LR, weight_decay=0.0)
    fixed = FixedNorms(model, optimizer, rule="hyperball", scale=SCALE, splits=SPLITS)
    by_hand = kind(plain.parameters(), lr=LR, weight_decay=0.0)
    radii = radii_of(plain)
    for step in range(STEPS):
        for each in (model, plain):
            each.zero_grad()
            loss_of(each, step).backward()
        optimizer.step()
        assert not fixed.step()
        hyperball(by_hand, plain, radii)
        assert_same(model, plain)
    assert list(fixed.norms.values()) == pytest.approx([float(r) for r in radii], rel=1e-14)
    assert fixed.weight_decays == {}


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("chunk", [1 << 16, 100])
def test_lawn_equals_the_formula(kind: Any, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_CHUNK", chunk)
    model = model_of()
    plain = copy.deepcopy(model)
    optimizer = kind(model.parameters(), lr=LR, weight_decay=0.0)
    fixed = FixedNorms(model, optimizer, rule="lawn", free_steps=FREE, splits=SPLITS)
    by_hand = kind(plain.parameters(), lr=LR, weight_decay=0.0)
    for step in range(STEPS):
        for each in (model, plain):
            each.zero_grad()
            loss_of(each, step).backward()
        optimizer.step()
        fixed.step()
        if step < FREE:
            by_hand.step()
            radii = radii_of(plain)
            assert set(fixed.norms.values()) == {0.0}
        else:
            lawn(by_hand, plain, radii)
        assert_same(model, plain)
    assert list(fixed.norms.values()) == pytest.approx([float(r) for r in radii], rel=1e-14)


def assert_same(model: nn.Module, plain: nn.Module) -> None:
    for name, p in plain.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), p, rtol=1e-12, atol=1e-13, msg=name)


def take(model: nn.Module, optimizer: Any, fixed: FixedNorms, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        fixed.step()


def test_what_is_no_module_decays_as_its_group_says() -> None:
    model = model_of()
    optimizer = SGD(model.parameters(), lr=LR, momentum=0.0, weight_decay=0.5)
    FixedNorms(model, optimizer, rule="hyperball", exclude=["2.*"])
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = copy.deepcopy(model)
    optimizer.step()
    torch.testing.assert_close(model[2].weight, before[2].weight * (1 - LR * 0.5))
    assert torch.equal(model[0].weight, before[0].weight)
    assert optimizer.param_groups[0]["weight_decay"] == 0.5


@pytest.mark.parametrize(("rule", "reductions"), [("hyperball", 1), ("lawn", 2)])
def test_reductions_of_a_step(rule: Any, reductions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    fixed = FixedNorms(model, optimizer, rule=rule, free_steps=FREE)
    calls = []
    plain = Sharding.sum_up
    monkeypatch.setattr(
        Sharding, "sum_up", lambda *given: calls.append(given[1].shape) or plain(*given)
    )
    take(model, optimizer, fixed, range(FREE))
    assert len(calls) == (FREE if rule == "hyperball" else 0)
    calls.clear()
    take(model, optimizer, fixed, range(FREE, FREE + 1))
    assert len(calls) == reductions


def test_a_matrix_of_zeros_has_the_norm_of_its_first_step() -> None:
    model = model_of()
    nn.init.zeros_(model[0].weight)
    plain = copy.deepcopy(model)
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    by_hand = AdamW(plain.parameters(), lr=LR, weight_decay=0.0)
    fixed = FixedNorms(model, optimizer, rule="hyperball")
    take(model, optimizer, fixed, range(1))
    loss_of(plain, 0).backward()
    by_hand.step()
    assert torch.equal(model[0].weight, plain[0].weight)
    assert fixed.norms["0.weight"] == 0.0
    take(model, optimizer, fixed, range(1, 3))
    assert fixed.norms["0.weight"] == pytest.approx(
        float(plain[0].weight.detach().norm()), rel=1e-12
    )
    assert float(model[0].weight.detach().norm()) == pytest.approx(
        fixed.norms["0.weight"], rel=1e-12
    )


def test_a_step_that_moves_nothing_fixes_no_norm() -> None:
    model = model_of()
    optimizer = AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
    fixed = FixedNorms(model, optimizer, rule="hyperball")
    before = copy.deepcopy(model.state_dict())
    take(model, optimizer, fixed, range(1))
    assert set(fixed.norms.values()) == {0.0}
    assert all(torch.equal(model.state_dict()[name], p) for name, p in before.items())


@pytest.mark.parametrize("rule", ["lawn", "hyperball"])
def test_it_goes_on_from_its_state(rule: Any) -> None:
    def made() -> tuple[nn.Module, Any, FixedNorms]:
        model = model_of()
        optimizer = AdamW(model.parameters(), lr=LR, weight_decay=0.0)
        return model, optimizer, FixedNorms(model, optimizer, rule=rule, free_steps=FREE)

    whole = made()
    take(*whole, range(STEPS))
    first = made()
    take(*first, range(FREE + 1))
    second = made()
    take(*second, range(7, 8))  # norms of other weights
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_state_dict(copy.deepcopy(first[1].state_dict()))
    second[2].load_state_dict(first[2].state_dict())
    take(*second, range(FREE + 1, STEPS))
    assert second[2].state_dict() == whole[2].state_dict()
    for name, p in whole[0].named_parameters():
        assert torch.equal(second[0].get_parameter(name), p)


def test_norms_that_are_held_stay_so_with_more_free_steps() -> None:
    model = model_of()
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    fixed = FixedNorms(model, optimizer, rule="lawn", free_steps=1)
    take(model, optimizer, fixed, range(2))
    state = fixed.state_dict()
    fixed.remove()
    longer = FixedNorms(model, optimizer, rule="lawn", free_steps=100)
    longer.load_state_dict(state)
    take(model, optimizer, longer, range(2, 4))
    assert float(model[0].weight.detach().norm()) == pytest.approx(
        state["norms"]["0.weight"], rel=1e-12
    )


def test_a_state_of_something_else_is_refused() -> None:
    model = model_of()
    fixed = FixedNorms(model, AdamW(model.parameters(), weight_decay=0.0), rule="lawn")
    state = fixed.state_dict()
    with pytest.raises(ValueError, match="rule hyperball version 1, not lawn 1"):
        fixed.load_state_dict(state | {"rule": "hyperball"})
    with pytest.raises(ValueError, match="another model's"):
        fixed.load_state_dict(state | {"norms": {"5.weight": 1.0}})


class Language(nn.Module):
    """A head beside an embedding, tied or not."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed = nn.Embedding(30, 8)
        self.body = nn.Linear(8, 8)
        self.lm_head = nn.Linear(8, 30, bias=False)
        if tied:
            self.lm_head.weight = self.embed.weight

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head


@pytest.mark.parametrize(("tied", "name"), [(False, "lm_head.weight"), (True, "embed.weight")])
def test_the_head_is_held_where_asked(tied: bool, name: str) -> None:
    held = {}
    for head in (False, True):
        model = Language(tied)
        optimizer = AdamW(model.parameters(), weight_decay=0.0)
        fixed = FixedNorms(model, optimizer, rule="lawn", head=head)
        held[head] = set(fixed.norms)
        fixed.remove()
    assert held == {False: {"body.weight"}, True: {"body.weight", name}}


def test_two_optimizers_hold_the_norms_of_their_own() -> None:
    model = model_of()
    first = SGD(model[0].parameters(), lr=LR, weight_decay=0.0)
    second = AdamW([*model[1].parameters(), *model[2].parameters()], lr=LR, weight_decay=0.0)
    fixed = FixedNorms(model, [first, second], rule="hyperball")
    begun = {name: float(p.detach().norm()) for name, p in model.named_parameters()}
    for step in range(3):
        model.zero_grad()
        loss_of(model, step).backward()
        first.step()
        second.step()
        fixed.step()
    for name, norm in fixed.norms.items():
        assert norm == pytest.approx(begun[name], rel=1e-12)
        assert float(model.get_parameter(name).detach().norm()) == pytest.approx(norm, rel=1e-12)


def test_a_step_that_fails_leaves_nothing_behind() -> None:
    class Failing(AdamW):
        fails = False

        def step(self, closure: Any = None) -> Any:
            if self.fails:
                raise RuntimeError("out of memory")
            return super().step(closure)

    model = model_of()
    optimizer = Failing(model.parameters(), lr=LR, weight_decay=0.0)
    fixed = FixedNorms(model, optimizer, rule="hyperball")
    take(model, optimizer, fixed, range(1))
    Failing.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step()
    Failing.fails = False
    optimizer.zero_grad()
    before = model[0].weight.detach().clone()
    optimizer.step()  # without gradients
    assert torch.equal(model[0].weight, before)


def test_removed_it_holds_nothing() -> None:
    model = model_of()
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    fixed = FixedNorms(model, optimizer, rule="hyperball")
    take(model, optimizer, fixed, range(1))
    fixed.remove()
    norm = float(model[0].weight.detach().norm())
    loss_of(model, 1).backward()
    optimizer.step()
    assert abs(float(model[0].weight.detach().norm()) / norm - 1) > 1e-3


def test_coarse_weights_are_refused() -> None:
    model = model_of().bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    FixedNorms(model, optimizer, rule="hyperball")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with pytest.raises(ValueError, match=r"master weights are torch\.bfloat16"):
        optimizer.step()


@pytest.mark.parametrize(
    "options", [{"rule": "ball"}, {"rule": "lawn", "free_steps": -1}, {"rule": "lawn", "scale": 0}]
)
def test_choices_that_cannot_work(options: Any) -> None:
    model = model_of()
    with pytest.raises(ValueError, match="rules are lawn, hyperball"):
        FixedNorms(model, AdamW(model.parameters()), **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("rule", ["lawn", "hyperball"])
def test_on_a_gpu_it_is_the_same_and_waits_for_nothing(rule: Any) -> None:
    found = []
    for device in ("cpu", "cuda"):
        model = model_of().to(device)
        optimizer = AdamW(model.parameters(), lr=LR, weight_decay=0.0)
        fixed = FixedNorms(model, optimizer, rule=rule, free_steps=1, scale=SCALE)
        for step in range(STEPS):
            optimizer.zero_grad()
            batch = torch.randn(8, 24, generator=torch.Generator().manual_seed(step)).double()
            model(batch.to(device)).square().mean().backward()
            if device == "cuda" and step > 1:  # constants are taken to the device once
                torch.cuda.set_sync_debug_mode("error")
            try:
                optimizer.step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
            fixed.step()
        found.append({name: p.detach().cpu() for name, p in model.named_parameters()})
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, rtol=1e-9, atol=1e-11, msg=name)
