"""torch.compile under DeepSpeed: the same losses, the same names, on two ranks."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.distributed.harness import init_deepspeed, run_ranks
from train.config.command_line import load_config
from train.engines.deepspeed import build_engine
from train.engines.ds_config import load_ds_config

RANKS = 2
LENGTH = 12
STEPS = 3
ARGUMENTS = (
    "--model.vocab_size=67",
    "--model.hidden_size=32",
    "--model.intermediate_size=48",
    "--model.num_layers=1",
    "--model.num_heads=2",
    f"--data.sequence_length={LENGTH}",
    "--run.global_batch=2",
    "--run.micro_batch=1",
    "--run.precision=float32",
    "--run.steps=9",
    "--optim.warmup_steps=1",
    "--optim.lr=0.01",
)


def losses_of(rank: int, stage: int, compiled: bool) -> tuple[list[float], list[str]]:
    init_deepspeed()
    config = load_config(
        [
            *ARGUMENTS,
            f"--model.compile={compiled}",
            f"--deepspeed.config={ROOT}/ds_configs/zero{stage}.json",
        ]
    )
    engine: Any = build_engine(config, load_ds_config(config, 1, RANKS)).handle
    assert engine.is_compiled is compiled
    losses = []
    for step in range(STEPS):
        tokens = torch.randint(
            67, (1, LENGTH), generator=torch.Generator().manual_seed(10 * step + rank)
        )
        loss = engine(input_ids=tokens, labels=tokens).loss
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
    return losses, [name for name, _ in engine.module.named_parameters()]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("stage", [2, 3])
def test_a_compiled_model_trains_as_the_plain_one(stage):
    plain = run_ranks(RANKS, losses_of, stage, False)
    compiled = run_ranks(RANKS, losses_of, stage, True)
    for (expected, names), (losses, same) in zip(plain, compiled, strict=True):
        assert (
            losses == pytest.approx(expected, abs=1e-5)
            and names == same
            and len(set(losses)) == STEPS
        )
