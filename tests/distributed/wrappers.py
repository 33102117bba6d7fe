"""The tiny LLaMA in any of DeepSpeed's optimizer wrappers."""

from __future__ import annotations

from typing import Any

import torch

from tests.distributed import reference
from train.models.build import build_model

ROWS = 8
STEPS = 4
RANKS = 2
BF16 = {"bf16": {"enabled": True}}


def zero(stage: int, **more: Any) -> dict[str, Any]:
    if stage == 3:
        more = {"stage3_param_persistence_threshold": 50, **more}
    return {"zero_optimization": {"stage": stage, **more}}


def engine_of(config: dict[str, Any], optimizer_of: Any) -> Any:
    import deepspeed

    model = build_model(reference.TINY, reference.LENGTH, seed=7, ds_config=config)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer_of(model), config=config)
    return engine


def train(engine: Any, rank: int, steps: int = STEPS) -> dict[str, torch.Tensor]:
    import deepspeed

    for step in range(steps):
        share = reference.tokens(step, ROWS).reshape(RANKS, -1, reference.LENGTH)[rank]
        engine.backward(engine(input_ids=share, labels=share).loss)
        engine.step()
    weights = {}
    for name, parameter in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            weights[name] = parameter.detach().clone().float()
    return weights
