"""Norms of the weights from each rank's partitions, for every ZeRO stage, against the whole model;
and steps that were applied.
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
from train.engines.deepspeed import DeepSpeedEngine
from train.models.build import build_model
from train.telemetry.norms import WeightNorms

CONFIGS: dict[str, dict[str, Any]] = {
    "stage-0": {"zero_optimization": {"stage": 0}},
    "stage-0-bf16": {"zero_optimization": {"stage": 0}, "bf16": {"enabled": True}},
    "stage-1": {"zero_optimization": {"stage": 1}},
    "stage-2-bf16": {"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}},
    "stage-3": {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 50}},
    "stage-3-sub-groups": {"zero_optimization": {"stage": 3, "sub_group_size": 3000}},
}


def measured(rank: int, size: int) -> dict[str, tuple[dict[str, float], dict[str, Any], bool]]:
    import deepspeed

    init_deepspeed()
    world = World(rank, rank, size, torch.device("cpu"))
    found = {}
    for name, choice in CONFIGS.items():
        config = {"train_micro_batch_size_per_gpu": 1, "gradient_clipping": 0.0, **choice}
        model = build_model(reference.TINY, reference.LENGTH, seed=7, ds_config=config)
        engine, *_ = deepspeed.initialize(
            model=model, optimizer=AdamW(model.parameters(), lr=0.0), config=config
        )
        norms = WeightNorms(DeepSpeedEngine(engine), world)
        batch = reference.tokens(0, size)[rank : rank + 1]
        engine.backward(engine(input_ids=batch, labels=batch).loss)
        engine.step()
        found[name] = (norms.squares(), norms.read(), engine.was_step_applied())
    return found


@pytest.mark.parametrize("size", [1, 2])
def test_against_the_whole_model(size: int) -> None:
    model = build_model(reference.TINY, reference.LENGTH, seed=7)
    expected = {
        name: float(p.detach().double().square().sum()) for name, p in model.named_parameters()
    }
    whole = math.sqrt(sum(expected.values()))
    queries = math.sqrt(sum(square for name, square in expected.items() if "q_proj" in name))
    for ranks in run_ranks(size, measured, size):
        for name, (squares, read, applied) in ranks.items():
            # float32 sums; 16-bit initial weights differ by their rounding, alike in both
            # directions.
            tolerance = 1e-4 if "bf16" in name else 1e-5
            assert squares == pytest.approx(expected, rel=30 * tolerance), name
            assert read["weight_norm"] == pytest.approx(whole, rel=tolerance) and applied
            assert read["weight_norms"]["q"] == pytest.approx(queries, rel=tolerance)
