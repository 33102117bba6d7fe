"""What DeepSpeed does with communication_data_type: the sum over ranks keeps what bf16 drops."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alphadecay import AdamW
from tests.distributed.harness import init_deepspeed, run_ranks

RANKS = 2
# Gradients of the ranks: both are exact in bf16, their sum is not.
GRADIENTS = (1.0, 2.0**-8)
BETA = 0.5
STAGES = (0, 1, 2, 3)


def moments(rank: int) -> dict[tuple[int, str], float]:
    """Return the first moment after one step, by stage and what gradients are reduced in."""
    import deepspeed

    init_deepspeed()
    found = {}
    for stage in STAGES:
        for reduced in ("bf16", "fp32"):
            config = {
                "train_micro_batch_size_per_gpu": 1,
                "steps_per_print": 10**9,
                "gradient_clipping": 0.0,
                "bf16": {"enabled": True},
                "communication_data_type": reduced,
                "zero_optimization": {"stage": stage},
            }
            if stage:
                config["data_types"] = {"grad_accum_dtype": "fp32"}
            model = nn.Linear(8, 2, bias=False)
            optimizer = AdamW(model.parameters(), lr=1e-3, betas=(BETA, 0.9), weight_decay=0.0)
            engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
            inputs = torch.full((1, 8), GRADIENTS[rank], dtype=torch.bfloat16)
            engine.backward(engine(inputs).sum())
            engine.step()
            (state,) = optimizer.state.values()
            found[stage, reduced] = float(state["exp_avg"].flatten()[0])
            engine.destroy()
    return found


def test_float32_sums_keep_what_bf16_drops() -> None:
    found, there = run_ranks(RANKS, moments)
    exact = (1 - BETA) * sum(GRADIENTS) / RANKS
    dropped = (1 - BETA) * GRADIENTS[0] / RANKS
    assert exact != dropped
    for stage in STAGES:
        assert found[stage, "bf16"] == there[stage, "bf16"] == pytest.approx(dropped, rel=1e-6)
        # stage 0 accumulates in bf16, and rounds the right sum to it
        kept = dropped if stage == 0 else exact
        assert found[stage, "fp32"] == there[stage, "fp32"] == pytest.approx(kept, rel=1e-6)
