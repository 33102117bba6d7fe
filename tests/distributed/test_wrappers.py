"""Every optimizer wrapper DeepSpeed makes: decay reaches each element once, and equals one stock
group per module.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

from alphadecay import AdamW, AlphaDecay
from tests.distributed import reference
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.distributed.wrappers import BF16, RANKS, ROWS, engine_of, train, zero

FP32_GRADIENTS = {"data_types": {"grad_accum_dtype": "fp32"}}
OFFLOAD = {"zero_force_ds_cpu_optimizer": False}
# offloaded in float32 the norm is added group by group: see SUMMED_OTHERWISE
UNCLIPPED = {"gradient_clipping": 0.0}


WRAPPERS: dict[str, dict[str, Any]] = {
    "stage-0-float32": zero(0),
    "stage-0-bf16": BF16 | zero(0),
    "stage-1-float32": zero(1),
    "stage-2-float32": zero(2),
    "stage-1-bf16": BF16 | zero(1),
    "stage-1-bf16-float32-gradients": BF16 | FP32_GRADIENTS | zero(1),
    "stage-2-bf16": BF16 | FP32_GRADIENTS | zero(2),
    "stage-2-bf16-round-robin": BF16 | zero(2, round_robin_gradients=True),
    "stage-2-bf16-offload": BF16 | OFFLOAD | zero(2, offload_optimizer={"device": "cpu"}),
    "stage-3-float32": zero(3),
    "stage-3-float32-offload": UNCLIPPED | OFFLOAD | zero(3, offload_optimizer={"device": "cpu"}),
    "stage-3-bf16": BF16 | zero(3),
    "stage-3-bf16-sub-groups": BF16 | zero(3, sub_group_size=3000),
    "stage-3-bf16-offload": BF16
    | OFFLOAD
    | zero(3, offload_optimizer={"device": "cpu"}, offload_param={"device": "cpu"}),
    # torch's fused kernel, ours and the stock's
    "stage-0-float32-fused": zero(0),
    "stage-2-bf16-fused": BF16 | zero(2),
    "stage-3-float32-offload-fused": UNCLIPPED
    | OFFLOAD
    | zero(3, offload_optimizer={"device": "cpu"}),
}
# Adding a norm group by group instead of over one flat buffer rounds otherwise; clipping passes
# that on.
SUMMED_OTHERWISE = {"stage-1-float32", "stage-2-float32"}


def ours_of(model: torch.nn.Module, fused: bool = False) -> torch.optim.Optimizer:
    return AdamW(
        model.parameters(), lr=reference.LR, weight_decay=reference.WEIGHT_DECAY, fused=fused
    )


def stock_of(decays: dict[str, float], fused: bool = False) -> Any:
    """One group per parameter, each with its own decay."""

    def build(model: torch.nn.Module) -> torch.optim.Optimizer:
        groups = [
            {
                "params": [p],
                "weight_decay": decays.get(
                    n, reference.WEIGHT_DECAY if len(getattr(p, "ds_shape", p.shape)) > 1 else 0.0
                ),
            }
            for n, p in model.named_parameters()
        ]
        return torch.optim.AdamW(groups, lr=reference.LR, fused=fused)

    return build


def stock_engine(config: dict[str, Any], decays: dict[str, float], fused: bool = False) -> Any:
    """Stock AdamW, one group per module.

    Stage 0 in bf16 takes a step while it initialises: with the base decay, as ours does.
    """
    if not ("bf16" in config and config["zero_optimization"]["stage"] == 0):
        return engine_of(config, stock_of(decays, fused))

    def base_everywhere(model: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            [{"params": [p]} for p in model.parameters()],
            lr=reference.LR,
            weight_decay=reference.WEIGHT_DECAY,
        )

    engine = engine_of(config, base_everywhere)
    for group, (name, p) in zip(
        engine.basic_optimizer.param_groups, engine.module.named_parameters(), strict=True
    ):
        group["weight_decay"] = decays.get(name, reference.WEIGHT_DECAY if p.dim() > 1 else 0.0)
    engine.basic_optimizer.state.clear()
    return engine


def wrapper_rank(rank: int, config: dict[str, Any], fused: bool) -> dict[str, Any]:
    init_deepspeed()
    config = {
        "train_micro_batch_size_per_gpu": ROWS // RANKS,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.5,
        "steps_per_print": 10**9,
        **config,
    }
    engine = engine_of(config, partial(ours_of, fused=fused))
    decay = AlphaDecay(engine, interval=10**6)
    ours = train(engine, rank)
    shapes = {name: module.shape[0] * module.shape[1] for name, module in decay._modules.items()}
    stock = train(stock_engine(config, decay.weight_decays, fused), rank)
    return {
        "ours": ours,
        "stock": stock,
        "elements": decay._attachment.fragments[0].elements,
        "numel": shapes,
        "decays": decay.weight_decays,
    }


@pytest.mark.parametrize("name", WRAPPERS)
def test_equals_one_stock_group_per_module(name: str) -> None:
    ranks = run_ranks(RANKS, wrapper_rank, WRAPPERS[name], name.endswith("fused"))
    first = ranks[0]
    assert len(set(first["decays"].values())) == 14
    assert all(rank["decays"] == first["decays"] for rank in ranks)
    copies = RANKS if name.startswith("stage-0") else 1
    assert {n: sum(rank["elements"][n] for rank in ranks) for n in first["numel"]} == {
        n: copies * e for n, e in first["numel"].items()
    }
    for parameter, weight in first["stock"].items():
        ours = first["ours"][parameter]
        if name in SUMMED_OTHERWISE:
            torch.testing.assert_close(ours, weight, rtol=0, atol=1e-6)
        else:
            assert torch.equal(ours, weight), parameter


def stock_adamw(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        model.parameters(), lr=reference.LR, weight_decay=reference.WEIGHT_DECAY
    )


def poisoned_rank(rank: int, config: dict[str, Any], optimizer_of: Any) -> dict[str, Any]:
    """Three steps, NaN in the loss of rank 1 at the second; AlphaDecay refreshes at each."""
    init_deepspeed()
    config = {
        "train_micro_batch_size_per_gpu": ROWS // RANKS,
        "gradient_clipping": 0.0,
        "steps_per_print": 10**9,
        **config,
    }
    engine = engine_of(config, optimizer_of)
    decay = AlphaDecay(engine, interval=1)
    history = []
    applied = []
    for step in range(3):
        share = reference.tokens(step, ROWS).reshape(RANKS, -1, reference.LENGTH)[rank]
        loss = engine(input_ids=share, labels=share).loss
        engine.backward(loss * (float("nan") if step == rank == 1 else 1.0))
        engine.step()
        decay.step()
        history.append(decay.alphas)
        applied.append(engine.was_step_applied())
    return {
        "history": history,
        "decays": decay.weight_decays,
        "statuses": decay.statuses,
        "applied": applied,
    }


@pytest.mark.parametrize("optimizer_of", [ours_of, stock_adamw])
@pytest.mark.parametrize(
    "name", ["stage-0-float32", "stage-0-bf16", "stage-1-float32", "stage-2-bf16", "stage-3-bf16"]
)
def test_a_nan_on_one_rank_skips_the_step_on_all(name: str, optimizer_of: Any) -> None:
    config = dict(WRAPPERS[name])
    if "bf16" in config:
        config["bf16"] = {"enabled": True, "check_grad_overflow": True}
    ranks = run_ranks(RANKS, poisoned_rank, config, optimizer_of)
    assert ranks[0] == ranks[1]
    before, poisoned, after = ranks[0]["history"]
    assert poisoned == before
    assert after != poisoned
    assert ranks[0]["statuses"] == {} and ranks[0]["applied"] == [True, False, True]
    assert all(0 < decay < math.inf for decay in ranks[0]["decays"].values())
