"""AWD and AdaDecay under sharding against plain arithmetic on an unsharded model, from the formulas
of their papers.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alphadecay import Adam, AdamW
from alphadecay.baselines.gradient_decay import GradientDecay
from tests.distributed import reference
from tests.distributed.gradient_oracle import ETA, INTERVAL, ROWS, RULES, STEPS, llama_oracle
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.distributed.nets import ROWS as NET_ROWS
from tests.distributed.nets import Net
from tests.distributed.wrapping import gathered, wrap
from train.models.build import build_model


def llama_rank(
    rank: int, world: int, stage: int, rule: str, optimizer_class: type
) -> dict[str, Any]:
    import deepspeed

    init_deepspeed()
    config = {
        "train_micro_batch_size_per_gpu": ROWS // world,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0,
        "steps_per_print": 10**9,
        "zero_optimization": {"stage": stage},
    }
    model = build_model(reference.TINY, reference.LENGTH, seed=7, ds_config=config)
    optimizer = optimizer_class(
        model.parameters(), lr=reference.LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=ETA
    )
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    decay = GradientDecay(engine, rule=rule, interval=INTERVAL)
    records = []
    for step in range(1, STEPS + 1):
        batch = reference.tokens(step, ROWS).reshape(world, -1, reference.LENGTH)[rank]
        engine.backward(engine(input_ids=batch, labels=batch).loss)
        engine.step()
        records.append(decay.step())
    return {
        "weights": gathered(engine),
        "decays": decay.weight_decays,
        "records": records,
        "state": decay.state_dict(),
    }


@pytest.mark.parametrize(
    ("rule", "stage", "optimizer_class"),
    [
        ("awd", 3, AdamW),
        ("adadecay", 3, AdamW),
        ("adadecay_parameters", 3, AdamW),
        ("awd", 2, Adam),
        ("gradient_norm", 3, AdamW),
        pytest.param("awd", 0, AdamW, marks=pytest.mark.slow),
        pytest.param("awd", 1, AdamW, marks=pytest.mark.slow),
        pytest.param("adadecay", 1, Adam, marks=pytest.mark.slow),
        pytest.param("adadecay", 0, Adam, marks=pytest.mark.slow),
        pytest.param("adadecay", 2, AdamW, marks=pytest.mark.slow),
        pytest.param("adadecay_parameters", 0, Adam, marks=pytest.mark.slow),
        pytest.param("adadecay_parameters", 2, AdamW, marks=pytest.mark.slow),
        pytest.param("adadecay_parameters", 3, Adam, marks=pytest.mark.slow),
    ],
)
def test_equals_the_formula_unsharded(rule: str, stage: int, optimizer_class: type) -> None:
    weights, decays = llama_oracle(rule, optimizer_class is AdamW)
    ranks = run_ranks(2, llama_rank, 2, stage, rule, optimizer_class)
    assert ranks[0]["records"] == [False, True, False, True]
    assert repr(ranks[0]["state"]) == repr(ranks[1]["state"])
    if rule in ("adadecay", "gradient_norm"):
        assert ranks[0]["decays"] == pytest.approx(decays, rel=1e-3)
    for name, expected in weights.items():
        torch.testing.assert_close(
            ranks[0]["weights"][name],
            expected,
            rtol=0,
            atol=0.02 * reference.LR,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def net_rank(rank: int, world: int, kind: str, rule: str) -> dict[str, Any]:
    model = Net()
    wrapped = wrap(model, kind) if kind else model
    optimizer = AdamW(wrapped.parameters(), lr=1e-2, weight_decay=ETA)
    decay = GradientDecay(wrapped, optimizer, rule=rule, interval=INTERVAL)
    for step in range(STEPS):
        batch = torch.randn(NET_ROWS, 24, generator=torch.Generator().manual_seed(step)).reshape(
            world, -1, 24
        )[rank]
        wrapped(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    weights = {
        name: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone()
        for name, p in model.named_parameters()
    }
    return {"weights": weights, "decays": decay.weight_decays}


@pytest.mark.parametrize(
    ("kind", "rule"),
    [("ddp", "awd"), ("fsdp2", "adadecay"), ("fsdp2-columns", "adadecay_parameters")],
)
def test_replicas_and_shards_equal_one_process(kind: str, rule: str) -> None:
    alone = net_rank(0, 1, "", rule)
    for rank in run_ranks(2, net_rank, 2, kind, rule):
        assert rank["decays"] == pytest.approx(alone["decays"], rel=1e-3)
        for name, weight in alone["weights"].items():
            torch.testing.assert_close(
                rank["weights"][name], weight, rtol=0, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_without_the_rule_the_weights_would_differ() -> None:
    """The tolerance above sees each rule: by the oracles alone."""
    found = {rule: llama_oracle(rule, True)[0] for rule in (*RULES, "none")}
    for rule in RULES:
        assert any(
            (found[rule][name] - found["none"][name]).abs().max() > 0.02 * reference.LR
            for name in found["none"]
        )
