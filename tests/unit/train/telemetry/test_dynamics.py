"""What a step did to the weights: the angle against float64, the angle of equilibrium against a
random walk that has come to it, and the lines that say so.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from alphadecay import Adam, AdamW, AlphaDecay
from alphadecay.baselines.fixed_norms import FixedNorms
from alphadecay.baselines.gradient_decay import GradientDecay
from alphadecay.optim import SGD, SGDW
from tests.engines import PlainEngine
from tests.unit.train.telemetry.test_telemetry import CONFIG
from train.cluster.distributed import World
from train.config import DecayConfig, OptimConfig
from train.telemetry.dynamics import Dynamics, equilibrium_rotation, rotation
from train.telemetry.metrics import read_metrics
from train.telemetry.shards import Shards
from train.telemetry.telemetry import Telemetry

HERE = World(0, 0, 1, torch.device("cpu"))
LR = 0.01
DECAY = 0.4
PLAIN = DecayConfig()
MATRICES = {"embed.weight", "layers.0.up.weight", "layers.0.down.weight", "head.weight"}


class Net(nn.Module):
    """Two matrices of a layer between an embedding and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        layer = {"up": nn.Linear(16, 24, bias=False), "down": nn.Linear(24, 16, bias=False)}
        self.layers = nn.ModuleList([nn.ModuleDict(layer)])
        self.head = nn.Linear(16, 30, bias=False)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        return self.head


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def one_step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    controller: Any,
    decay: DecayConfig = PLAIN,
    base: float = DECAY,
) -> dict[str, dict[str, Any]]:
    """The figures of a step on gradients that are noise."""
    optim = OptimConfig(name="adamw")
    dynamics = Dynamics(1, optim, decay, Shards(PlainEngine(module, optimizer), HERE))
    for p in module.parameters():
        p.grad = torch.randn_like(p)
    dynamics.begin(1)
    optimizer.step()
    dynamics.stepped(LR, base, controller, momentum=0.9)
    return dynamics.read()


@pytest.mark.parametrize("angle", [1e-6, 1e-3, 0.3, 2.0])
def test_a_small_angle_is_not_lost_among_large_norms(angle: float) -> None:
    torch.manual_seed(0)
    one, other = torch.linalg.qr(torch.randn(500, 2, dtype=torch.float64)).Q.T
    turned = 1.001 * (math.cos(angle) * one + math.sin(angle) * other)
    norms = (one.norm(), turned.norm(), (turned - one).norm())
    assert rotation(*map(float, norms)) == pytest.approx(angle, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "make", "momentum"),
    [
        ("adamw", lambda p: AdamW(p, lr=LR, weight_decay=DECAY), 0.9),
        ("adamw", lambda p: AdamW(p, lr=LR, weight_decay=DECAY, betas=(0.5, 0.999)), 0.5),
        ("sgdw", lambda p: SGDW(p, lr=LR, weight_decay=DECAY), 0.9),
        ("sgd", lambda p: SGD(p, lr=LR, weight_decay=DECAY), 0.9),
    ],
)
def test_a_random_walk_comes_to_the_angle_of_equilibrium(
    name: str, make: Any, momentum: float
) -> None:
    """With gradients that are noise the mean angle over steps is that of the formula; its noise
    over 100 steps of 4096 elements is some 1 %, and half or twice the decay is 30 % off.
    """
    torch.manual_seed(0)
    module = nn.Linear(64, 64, bias=False)
    optimizer = make(module.parameters())
    optim = OptimConfig(name=name)  # type: ignore[arg-type]
    assert optim.beta1 == optim.momentum == 0.9  # as one cycle begins; the step's own counts
    dynamics = Dynamics(1, optim, PLAIN, Shards(PlainEngine(module, optimizer), HERE))
    shares = []
    for step in range(1500):
        module.weight.grad = torch.randn_like(module.weight)
        if step >= 1400:
            dynamics.begin(step)
        optimizer.step()
        if step >= 1400:
            dynamics.stepped(LR, DECAY, None, momentum=momentum)
            figures = dynamics.read()
            shares.append(figures["equilibrium"]["weight"])
            assert abs(figures["norm_growth"]["weight"]) < 3e-3
    assert sum(shares) / len(shares) == pytest.approx(1.0, abs=0.06)


def test_with_an_l2_penalty_in_adam_there_is_no_such_angle() -> None:
    assert equilibrium_rotation("adam", LR, DECAY, 0.9) is None
    assert equilibrium_rotation("adamw", LR, 0.0, 0.9) == 0.0


@pytest.mark.parametrize("decay", [DecayConfig(cautious=True), DecayConfig(towards="start")])
def test_where_decay_is_no_even_shrinking_there_is_none_either(decay: DecayConfig) -> None:
    module = nn.Linear(4, 3)
    optimizer = AdamW(module.parameters(), lr=LR)
    figures = one_step(module, optimizer, None, decay)
    assert figures["equilibrium"] == {"weight": None}
    assert figures["rotation"]["weight"] > 0
    plain = one_step(module, optimizer, None)
    assert plain["equilibrium"]["weight"] > 0


def test_awd_decays_embeddings_and_head_as_it_does_the_rest() -> None:
    model = net()
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    decay = GradientDecay(model, optimizer, rule="awd")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    figures = one_step(model, optimizer, decay)
    norms = [
        math.sqrt(sum(float(p.double().square().sum()) for p in values))
        for values in ([p.grad for p in model.parameters()], before.values())
    ]
    weight_decay = 100.0 * DECAY * norms[0] / norms[1]
    assert set(figures["rotation"]) == MATRICES
    for name in MATRICES:
        balance = equilibrium_rotation("adamw", LR, weight_decay, 0.9)
        share = figures["rotation"][name] / balance
        assert figures["equilibrium"][name] == pytest.approx(share, rel=1e-5)


def test_under_hyperball_the_rate_is_the_length_of_a_step_over_the_norm() -> None:
    model = net()
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    decay = FixedNorms(model, optimizer, rule="hyperball", scale=3.0)
    figures = one_step(model, optimizer, decay, base=0.0)
    held = {"layers.0.up.weight", "layers.0.down.weight"}
    for name in MATRICES:
        if name in held:
            # a step across the radius, back on the sphere: an angle whose tangent is its length
            assert figures["effective_lr"][name] == pytest.approx(3 * LR)
            assert figures["rotation"][name] == pytest.approx(3 * LR, rel=0.1)
        else:
            norm = float(model.get_parameter(name).norm())
            assert figures["effective_lr"][name] == pytest.approx(LR / norm)
        assert figures["equilibrium"][name] is None  # nothing decays


def test_each_module_has_its_own_rate_and_decay() -> None:
    torch.manual_seed(0)
    module = nn.ModuleDict({n: nn.Linear(40, 24, bias=False) for n in "ab"})
    module["norm"] = nn.LayerNorm(24)
    optimizer = AdamW(module.parameters(), lr=LR, weight_decay=DECAY)
    decay = AlphaDecay(module, optimizer, drives="both", lr_ramp=0)
    optim = OptimConfig(name="adamw")
    dynamics = Dynamics(3, optim, PLAIN, Shards(PlainEngine(module, optimizer), HERE))
    for step in (2, 3):
        dynamics.begin(step)
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        for p in module.parameters():
            p.grad = torch.randn_like(p)
        optimizer.step()
        dynamics.stepped(LR, DECAY, decay, momentum=0.9)
        figures = dynamics.read()
        assert bool(figures) is (step == 3)
    assert set(figures["rotation"]) == {"a.weight", "b.weight"}  # gains turn nothing
    for name, ratio in decay.rates.ratios.items():
        after = module.get_parameter(name).detach()
        assert figures["effective_lr"][name] == pytest.approx(LR * ratio / float(after.norm()))
        cosine = nn.functional.cosine_similarity(
            before[name].double().flatten(), after.double().flatten(), dim=0
        )
        angle = math.acos(float(cosine))
        assert figures["rotation"][name] == pytest.approx(angle, rel=1e-4)
        balance = equilibrium_rotation("adamw", LR * ratio, decay.weight_decays[name], 0.9)
        assert figures["equilibrium"][name] == pytest.approx(angle / balance, rel=1e-4)
    assert not dynamics.read()  # once a step


def test_a_step_that_was_skipped_has_no_figures() -> None:
    module = nn.Linear(4, 3)
    dynamics = Dynamics(
        1, OptimConfig(), PLAIN, Shards(PlainEngine(module, Adam(module.parameters())), HERE)
    )
    dynamics.begin(1)
    assert dynamics.read() == {}


def test_lines_have_a_kind_of_their_own_and_are_off_by_default(tmp_path: Path) -> None:
    for every, expected in ((0, []), (2, [2, 4])):
        module = nn.Linear(4, 3)
        optimizer = AdamW(module.parameters(), lr=LR)
        config = replace(CONFIG, log=replace(CONFIG.log, dynamics=every))
        folder = tmp_path / str(every)
        shown = Telemetry(config, folder, HERE, PlainEngine(module, optimizer), None)
        shown.journal.open()
        for step in range(1, 6):
            shown.begin(step)
            for p in module.parameters():
                p.grad = torch.ones_like(p)
            optimizer.step()
            shown.stepped(LR, DECAY, None, momentum=0.9)
            shown.train(step, {"loss": 1.0, "lr": LR, "grad_norm": 1.0, "tokens": step})
        shown.close()
        lines = read_metrics(folder / "metrics.jsonl", "dynamics")
        assert [line["step"] for line in lines] == expected
        assert all(line["rotation"]["weight"] > 0 for line in lines)
