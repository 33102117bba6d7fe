"""A scheduled base decay under the program's engines against stock AdamW, whose groups are given
the formula's decay by hand.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch

from tests.distributed.engine_runs import (
    ENGINES,
    LENGTH,
    STEPS,
    assert_weights,
    config_of,
    rows_of,
    sharded,
)
from tests.distributed.harness import run_ranks
from train.config import TrainConfig
from train.models.build import build_model

LR = 0.01  # at its peak
DECAY = 2.0  # large, so that a wrong schedule is seen: 0.02 of a weight a step
COMMON = ("--decay.method=uniform", f"--optim.weight_decay={DECAY}", "--optim.min_lr_ratio=0.1")
SCHEDULES = ("constant", "cosine", "lr")


def rate(step: int) -> float:
    """The cosine from LR to a tenth of it, without warm-up."""
    return LR * (0.1 + 0.9 * (1 + math.cos(math.pi * step / STEPS)) / 2)


def decay(schedule: str, step: int) -> float:
    return (
        DECAY
        * {
            "constant": 1.0,
            "cosine": (1 + math.cos(math.pi * step / STEPS)) / 2,
            "lr": rate(step) / LR,
        }[schedule]
    )


def oracle(config: TrainConfig, schedule: str) -> dict[str, torch.Tensor]:
    model = build_model(config.model, LENGTH, config.run.seed_of_init)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    gains = [p for p in model.parameters() if p.dim() == 1]
    groups: list[Any] = [{"params": matrices}, {"params": gains, "weight_decay": 0.0}]
    optim = config.optim
    optimizer = torch.optim.AdamW(groups, betas=(optim.beta1, optim.beta2), eps=optim.eps)
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.param_groups[0]["weight_decay"] = decay(schedule, step)
        model(input_ids=rows_of(step - 1), labels=rows_of(step - 1)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), optim.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
    return {name: p.detach() for name, p in model.named_parameters()}


@cache
def expected(schedule: str) -> dict[str, torch.Tensor]:
    return oracle(config_of(*case(schedule)), schedule)


def case(schedule: str) -> tuple[str, ...]:
    return (*COMMON, f"--decay.schedule={schedule}")


@pytest.mark.parametrize("engine", ENGINES)
def test_each_schedule_equals_its_formula(engine: str) -> None:
    found = run_ranks(2, sharded, [case(schedule) for schedule in SCHEDULES], (engine,))[0]
    for schedule, run in zip(SCHEDULES, found, strict=True):
        assert_weights(run.weights, expected(schedule))


@pytest.mark.parametrize("schedule", ["cosine", "lr"])
def test_the_tolerance_tells_it_from_a_decay_that_stays(schedule: str) -> None:
    with pytest.raises(AssertionError):
        assert_weights(expected(schedule), expected("constant"))
