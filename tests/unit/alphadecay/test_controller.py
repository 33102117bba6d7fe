"""AlphaDecay in one process: against torch's own optimizers with one param group per module."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from alphadecay import Adam, AdamW, AlphaDecay, assign_weight_decay, pl_alpha_hill
from alphadecay.spectral import estimate
from tests.unit.alphadecay.nets import Net, gradients


def test_weight_decay_multiples_of_the_optimizers_own_by_weight_name() -> None:
    model = Net()
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
    alphas = {
        "up.weight": pl_alpha_hill(model.up.weight),
        "down.weight": pl_alpha_hill(model.down.weight),
    }
    assert decay.alphas == pytest.approx(alphas, rel=1e-6)
    assert decay.weight_decays == assign_weight_decay(
        decay.alphas, weight_decay=0.1, s1=0.67, s2=5.0
    )
    assert sorted(decay.weight_decays.values()) == pytest.approx([0.067, 0.5])


@pytest.mark.parametrize(("ours", "stock"), [(AdamW, torch.optim.AdamW), (Adam, torch.optim.Adam)])
@pytest.mark.parametrize("interval", [1, 3])
def test_bit_equal_to_one_stock_group_per_module(ours: type, stock: type, interval: int) -> None:
    model = Net()
    twin = Net()
    optimizer = ours(model.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=interval)
    twins = stock(
        [
            {"params": [p], "name": n, "weight_decay": 0.0 if p.dim() < 2 else 0.1}
            for n, p in twin.named_parameters()
        ],
        lr=1e-2,
    )
    for step in range(1, 9):
        if step == 1 or step % interval == 0:
            alphas = {
                name: pl_alpha_hill(dict(twin.named_parameters())[name]) for name in decay.alphas
            }
            decays = assign_weight_decay(alphas, weight_decay=0.1)
            for group in twins.param_groups:
                group["weight_decay"] = decays.get(group["name"], group["weight_decay"])
            assert decay.weight_decays == decays
            assert decay.last_refresh_step == (0 if step == 1 else step)
        for net, opt in ((model, optimizer), (twin, twins)):
            gradients(net, step)
            opt.step()
        decay.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, dict(twin.named_parameters())[name]), name


COUPLED = ("ASGD", "Adadelta", "Adagrad", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD")


@pytest.mark.parametrize("stock", [getattr(torch.optim, name) for name in (*COUPLED, "AdamW")])
def test_takes_over_any_torch_optimizer(stock: type) -> None:
    model = Net()
    twin = Net()
    optimizer = stock(model.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer)
    decays = decay.weight_decays
    twins = stock(
        [
            {"params": [p], "weight_decay": decays.get(n, 0.0 if p.dim() < 2 else 0.1)}
            for n, p in twin.named_parameters()
        ],
        lr=1e-2,
    )
    for step in range(3):
        for net, opt in ((model, optimizer), (twin, twins)):
            gradients(net, step)
            opt.step()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1]
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_each_module_scales_its_own_groups_decay() -> None:
    model = Net()
    rest = [p for n, p in model.named_parameters() if not n.startswith("down")]
    optimizer = AdamW(
        [{"params": rest}, {"params": model.down.parameters(), "weight_decay": 0.02}],
        weight_decay=0.1,
    )
    decay = AlphaDecay(model, optimizer)
    for base, name in ((0.1, "up.weight"), (0.02, "down.weight")):
        assert (
            decay.weight_decays[name] == assign_weight_decay(decay.alphas, weight_decay=base)[name]
        )


def test_unbound_it_is_torchs_own() -> None:
    model = Net()
    twin = Net()
    ours = AdamW(model.parameters(), weight_decay=0.3)
    stock = torch.optim.AdamW(twin.parameters(), weight_decay=0.3)
    for net, opt in ((model, ours), (twin, stock)):
        gradients(net, 0)
        opt.step()
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )


@pytest.mark.parametrize("poison", [math.nan, math.inf, 0.0])
def test_a_broken_module_keeps_the_base_decay_and_moves_no_other(poison: float) -> None:
    model = Net()
    model.third = nn.Linear(20, 30)
    healthy = AlphaDecay(
        model, AdamW(model.parameters(), weight_decay=0.1), exclude=["third.weight"]
    ).weight_decays
    with torch.no_grad():
        model.third.weight.fill_(poison)
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
    assert decay.weight_decays == {**healthy, "third.weight": 0.1}
    assert decay.statuses == {"third.weight": "zero" if poison == 0 else "not_finite"}


def test_state_goes_on_where_it_was_and_a_stock_checkpoint_does_not_decay_twice() -> None:
    model = Net()
    optimizer = AdamW(model.parameters(), weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=4)
    for step in range(6):
        gradients(model, step)
        optimizer.step()
        decay.step()
    twin = copy.deepcopy(model)
    stock_state = torch.optim.AdamW(twin.parameters(), weight_decay=0.1).state_dict()
    other = AdamW(twin.parameters(), weight_decay=0.1)
    resumed = AlphaDecay(twin, other, interval=4)
    resumed.load_state_dict(decay.state_dict())
    other.load_state_dict(stock_state)
    assert resumed.state_dict() == decay.state_dict()
    assert (resumed.weight_decays, resumed.last_refresh_step) == (decay.weight_decays, 4)
    gradients(twin, 0)
    before = twin.up.weight.detach().clone()
    twin.up.weight.grad.zero_()
    other.step()
    assert torch.equal(
        twin.up.weight,
        before * (1 - other.param_groups[0]["lr"] * decay.weight_decays["up.weight"]),
    )


def test_state_of_another_model_is_refused() -> None:
    model = Net()
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
    state = decay.state_dict()
    state["modules"]["other.weight"] = state["modules"].pop("up.weight")
    with pytest.raises(ValueError, match=r"another model's.*up\.weight.*other\.weight"):
        decay.load_state_dict(state)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"interval": 0}, "interval is 0"),
        ({"interval": 2.5}, "interval is 2.5, must be a whole number"),
        ({"include": "*up*"}, "write a list of patterns"),
        ({"s1": 3, "s2": 1}, "s1 <= s2"),
        ({"tail": "median"}, "tail is 'median'"),
        ({"compat": "paper"}, "compat is 'paper'"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"minimum_range": -1}, "minimum_range is -1"),
        ({"method": "farms", "tail": "fix_finger"}, "farms"),
        ({"method": "qr"}, "method is 'qr'"),
    ],
)
def test_a_bad_choice_is_named(choices: dict[str, object], message: str) -> None:
    model = Net()
    with pytest.raises(ValueError, match=message):
        AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1), **choices)


def test_what_cannot_work_says_what_to_do() -> None:
    model = Net()
    with pytest.raises(ValueError, match="needs its optimizer"):
        AlphaDecay(model)
    with pytest.raises(ValueError, match="weight_decay is 0"):
        AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.0))
    with pytest.raises(ValueError, match=r"does not hold up\.weight"):
        AlphaDecay(model, AdamW(model.down.parameters(), weight_decay=0.1))
    with pytest.raises(TypeError, match="unexpected keyword argument 'intervall'"):
        AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1), intervall=3)


def test_published_mode_exempts_nothing() -> None:
    decays = {}
    for compat in (None, "published"):
        model = Net()
        optimizer = AdamW(model.parameters(), lr=0.5, weight_decay=0.1)
        AlphaDecay(model, optimizer, compat=compat, include=["up.weight", "down.weight"])
        gradients(model, 0)
        model.norm.weight.grad.zero_()
        optimizer.step()
        decays[compat] = float(model.norm.weight[0].detach())
    assert decays == {None: 1.0, "published": pytest.approx(0.95)}


def test_optional_policies() -> None:
    model = Net()

    def decays(**choices: object) -> dict[str, float]:
        return AlphaDecay(
            model, AdamW(model.parameters(), weight_decay=0.1), **choices
        ).weight_decays

    assert set(decays(minimum_range=1e3).values()) == {0.1}
    assert sum(decays(mean_preserving=True).values()) / 2 == pytest.approx(0.1)
    assert decays(method="svd") == pytest.approx(decays(), rel=1e-4)


def test_farms_measures_windows() -> None:
    model = Net()
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1), method="farms")
    for name, alpha in decay.alphas.items():
        assert alpha == float(estimate(dict(model.named_parameters())[name], method="farms").alpha)


def test_alphas_are_smoothed_over_refreshes_and_resumes() -> None:
    model = Net()
    model.third = nn.Linear(20, 30)
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1), ema=0.5)
    former = decay.alphas
    with torch.no_grad():
        model.down.weight.copy_(torch.randn(20, 48) * torch.arange(1.0, 49.0))
    twin = copy.deepcopy(model)
    resumed = AlphaDecay(twin, AdamW(twin.parameters(), weight_decay=0.1), ema=0.5)
    resumed.load_state_dict(decay.state_dict())
    decay.refresh()
    resumed.refresh()
    mapped = {name: (former[name] + alpha) / 2 for name, alpha in decay.alphas.items()}
    assert decay.alphas["down.weight"] != former["down.weight"]
    assert decay.weight_decays == pytest.approx(assign_weight_decay(mapped, weight_decay=0.1))
    assert resumed.state_dict() == decay.state_dict()


def test_a_spread_refresh_measures_at_the_refresh_and_decays_later() -> None:
    """Refresh before step 4 of weights after step 3; its decays hold from step 4 + 2 on.

    A resume in between changes nothing.
    """
    model = Net()
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=4, spread=2)
    burst_model = Net()
    burst_optimizer = AdamW(burst_model.parameters(), lr=1e-2, weight_decay=0.1)
    burst = AlphaDecay(burst_model, burst_optimizer, interval=4)
    assert decay.weight_decays == burst.weight_decays
    first = decay.weight_decays
    returned = []
    for step in range(1, 6):
        for net, opt, controller in (
            (burst_model, burst_optimizer, burst),
            (model, optimizer, decay),
        ):
            if step <= 3 or net is model:
                gradients(net, step)
                opt.step()
                refreshed = controller.step()
        returned.append(refreshed)
        if step == 4:
            assert decay.weight_decays == first
            twin = copy.deepcopy(model)
            twins = AdamW(twin.parameters(), lr=1e-2, weight_decay=0.1)
            resumed = AlphaDecay(twin, twins, interval=4, spread=2)
            resumed.load_state_dict(decay.state_dict())
            gradients(twin, 5)
            twins.step()
    assert returned == [False, False, False, False, True]
    assert decay.last_refresh_step == 6
    assert burst.last_refresh_step == 4
    assert decay.weight_decays == pytest.approx(burst.weight_decays, rel=1e-3)
    assert decay.weight_decays != first
    assert resumed.step() is True
    assert resumed.state_dict() == decay.state_dict()


def test_spread_limits() -> None:
    model = Net()
    for choices, message in (
        ({"interval": 3, "spread": 3}, "below interval 3"),
        ({"spread": 2, "method": "svd"}, 'needs method "gram"'),
    ):
        with pytest.raises(ValueError, match=message):
            AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1), **choices)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_takes_over_muon_beside_an_adamw_for_the_rest() -> None:
    model = Net()
    twin = Net()
    matrices = [model.up.weight, model.down.weight]
    optimizer = torch.optim.Muon(matrices, lr=1e-2, weight_decay=0.1)
    decays = AlphaDecay(model, optimizer).weight_decays
    groups = [
        {"params": [twin.up.weight], "weight_decay": decays["up.weight"]},
        {"params": [twin.down.weight], "weight_decay": decays["down.weight"]},
    ]
    twins = torch.optim.Muon(groups, lr=1e-2)
    for step in range(3):
        for net, opt in ((model, optimizer), (twin, twins)):
            gradients(net, step)
            opt.step()
    assert torch.equal(model.up.weight, twin.up.weight)
    assert torch.equal(model.down.weight, twin.down.weight)
