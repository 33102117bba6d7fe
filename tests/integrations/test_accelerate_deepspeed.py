"""AlphaDecay on the DeepSpeed engine that `accelerator.prepare` returns, at three ZeRO stages."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from alphadecay import AlphaDecay
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.integrations import loops

pytestmark = pytest.mark.integrations
accelerate: Any = pytest.importorskip("accelerate", reason="made by make integrations")
pytest.importorskip("deepspeed", reason="made by make integrations")
RANKS = 2


def whole(engine: Any) -> dict[str, torch.Tensor]:
    """Every weight, gathered."""
    import deepspeed

    weights = {}
    for name, parameter in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            weights[name] = parameter.detach().clone()
    return weights


def zero_gradient_step(stage: int, kind: str) -> tuple[float, int]:
    """Return the largest error of a step on zero gradients, and the steps that were counted."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()
    plugin = accelerate.DeepSpeedPlugin(
        hf_ds_config={
            "train_micro_batch_size_per_gpu": 2,
            "gradient_accumulation_steps": 2,
            "gradient_clipping": 0.0,
            "steps_per_print": 10**9,
            "zero_force_ds_cpu_optimizer": False,
            "zero_optimization": {"stage": stage},
        }
    )
    accelerator = accelerate.Accelerator(deepspeed_plugin=plugin, gradient_accumulation_steps=2)
    model = loops.Net()
    engine, optimizer = accelerator.prepare(model, *loops.OPTIMIZERS[kind](model))
    assert engine.zero_optimization_stage() == stage
    decay = AlphaDecay(engine, optimizer, interval=2)
    loops.assert_three_decays(decay, kind)
    before = whole(engine)
    factors = loops.expected_factors(decay, before, kind)
    for _ in range(2):
        with accelerator.accumulate(engine):
            accelerator.backward(loops.zero_loss(engine))
            optimizer.step()
            optimizer.zero_grad()
            decay.step()
    error, _ = loops.worst(before, whole(engine), factors)
    return error, decay.state_dict()["step"]


def on_a_rank(rank: int) -> dict[str, tuple[float, int]]:
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    os.environ["LOCAL_WORLD_SIZE"] = str(RANKS)
    init_deepspeed()
    return {
        f"{kind} at stage {stage}": zero_gradient_step(stage, kind)
        for stage in (0, 2, 3)
        for kind in ("stock", "ours")
    }


def test_a_zero_gradient_step_decays_by_module_on_two_ranks() -> None:
    for results in run_ranks(RANKS, on_a_rank):
        assert len(results) == 6
        for case, (error, steps) in results.items():
            assert error <= loops.TOLERANCE, case
            assert steps == 1, case
