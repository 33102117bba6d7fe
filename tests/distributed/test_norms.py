"""Norms of the weights, and what a step did to them, from each rank's partitions, for every ZeRO
stage, against the whole model; and steps that were applied.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from alphadecay import AdamW
from tests.distributed import reference
from tests.distributed.harness import init_deepspeed, run_ranks
from train.cluster.distributed import World
from train.config import DecayConfig, OptimConfig
from train.engines.deepspeed import DeepSpeedEngine
from train.models.build import build_model
from train.telemetry.dynamics import Dynamics
from train.telemetry.norms import WeightNorms
from train.telemetry.shards import Shards

CONFIGS: dict[str, dict[str, Any]] = {
    "stage-0": {"zero_optimization": {"stage": 0}},
    "stage-0-bf16": {"zero_optimization": {"stage": 0}, "bf16": {"enabled": True}},
    "stage-1": {"zero_optimization": {"stage": 1}},
    "stage-2-bf16": {"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}},
    "stage-3": {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 50}},
    "stage-3-sub-groups": {"zero_optimization": {"stage": 3, "sub_group_size": 3000}},
}


LR = 0.01
DECAY = 0.1


def measured(rank: int, size: int) -> dict[str, tuple[dict[str, float], dict[str, Any], bool, Any]]:
    import deepspeed

    init_deepspeed()
    world = World(rank, rank, size, torch.device("cpu"))
    found = {}
    for name, choice in CONFIGS.items():
        config = {"train_micro_batch_size_per_gpu": 1, "gradient_clipping": 0.0, **choice}
        model = build_model(reference.TINY, reference.LENGTH, seed=7, ds_config=config)
        engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=AdamW(model.parameters(), lr=0.0, weight_decay=DECAY),
            config=config,
        )
        shards = Shards(DeepSpeedEngine(engine), world)
        norms = WeightNorms(shards)
        dynamics = Dynamics(2, OptimConfig(name="adamw"), DecayConfig(), shards)
        batch = reference.tokens(0, size)[rank : rank + 1]
        for step in (1, 2):  # the first moves nothing
            DeepSpeedEngine(engine).set_learning_rate(LR * (step - 1))
            dynamics.begin(step)
            engine.backward(engine(input_ids=batch, labels=batch).loss)
            engine.step()
            if step == 1:
                read = (norms.squares(), norms.read(), engine.was_step_applied())
                assert not dynamics.read()
        dynamics.stepped(LR, DECAY, None, momentum=0.9)
        found[name] = (*read, dynamics.read())
    return found


def whole_step(size: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The weights of one process before and after the second step, in float64."""
    model = build_model(reference.TINY, reference.LENGTH, seed=7)
    before = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=DECAY)
    batch = reference.tokens(0, size)
    for step in (1, 2):
        optimizer.param_groups[0]["lr"] = LR * (step - 1)
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
    return before, {name: p.detach().double() for name, p in model.named_parameters()}


def assert_dynamics(
    found: dict[str, dict[str, Any]],
    before: dict[str, torch.Tensor],
    after: dict[str, torch.Tensor],
    tolerance: float,
) -> None:
    matrices = {name for name, weight in before.items() if weight.dim() > 1}
    assert set(found["rotation"]) == matrices
    balance = math.sqrt(2 * LR * DECAY * (1 - 0.9) / (1 + 0.9))
    for name in matrices:
        old, new = before[name].flatten(), after[name].flatten()
        angle = math.acos(float(old @ new / (old.norm() * new.norm())))
        assert found["rotation"][name] == pytest.approx(angle, rel=tolerance), name
        assert found["equilibrium"][name] == pytest.approx(angle / balance, rel=tolerance)
        growth = math.log(float(new.norm() / old.norm()))
        assert found["norm_growth"][name] == pytest.approx(growth, rel=tolerance, abs=2e-6)
        assert found["effective_lr"][name] == pytest.approx(LR / float(new.norm()), rel=tolerance)


@pytest.mark.parametrize("size", [1, 2])
def test_against_the_whole_model(size: int) -> None:
    model = build_model(reference.TINY, reference.LENGTH, seed=7)
    expected = {
        name: float(p.detach().double().square().sum()) for name, p in model.named_parameters()
    }
    whole = math.sqrt(sum(expected.values()))
    queries = math.sqrt(sum(square for name, square in expected.items() if "q_proj" in name))
    before, after = whole_step(size)
    for ranks in run_ranks(size, measured, size):
        for name, (squares, read, applied, dynamics) in ranks.items():
            # float32 sums; 16-bit initial weights differ by their rounding, alike in both
            # directions.
            tolerance = 1e-4 if "bf16" in name else 1e-5
            assert squares == pytest.approx(expected, rel=30 * tolerance), name
            assert read["weight_norm"] == pytest.approx(whole, rel=tolerance) and applied
            assert read["weight_norms"]["q"] == pytest.approx(queries, rel=tolerance)
            if "bf16" not in name:  # whose gradients, and so Adam's steps, are others
                assert_dynamics(dynamics, before, after, 1e-3)
