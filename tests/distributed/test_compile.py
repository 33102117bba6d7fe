"""Compiled layers and the loss in chunks under ZeRO-3 on two ranks: the plain run's losses.

Refreshes and evaluations lie between the steps. The compiler runs traced graphs as they are but for
the slow test, which compiles in earnest.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from tests.distributed.harness import init_deepspeed, run_ranks
from tests.distributed.tiny_engine import ARGUMENTS, VOCABULARY, ds_config, losses_of
from train.config.command_line import load_config
from train.engines.deepspeed import build_engine
from train.models import chunked_loss

RANKS = 2
STEPS = 3
COMPILED = ("--model.compile=true", "--model.fused_cross_entropy=chunked")
# ZeRO-3's hooks around every submodule are then within what is compiled, which ends at each.
MODULES = (*COMPILED, "--deepspeed.leaf_layers=false")


def run(rank: int, stage: int, bf16: bool, *arguments: str) -> tuple[list[float], list[str]]:
    """Return the losses of a few steps, and the names of the model's state."""
    engine = build_engine(load_config([*ARGUMENTS, *arguments]), ds_config(stage, bf16))
    return losses_of(engine, rank, STEPS), list(engine.module.state_dict())


def trace_only() -> None:
    """Have torch.compile run what it traced as it is."""
    compile_with = torch.compile

    def traced(function: Any, **options: Any) -> Any:
        return compile_with(function, backend="aot_eager", **options)

    torch.compile = traced  # in a process of its own


def job(rank: int) -> dict[str, Any]:
    init_deepspeed()
    trace_only()
    chunked_loss.CHUNK = 5 * VOCABULARY
    counters.clear()
    found = {
        "plain": run(rank, 3, False),
        "chunked": run(rank, 3, False, "--model.fused_cross_entropy=chunked"),
        "chunked and tied": run(
            rank, 3, False, "--model.fused_cross_entropy=chunked", "--model.tie_embeddings=true"
        ),
        "tied": run(rank, 3, False, "--model.tie_embeddings=true"),
        "compiled": run(rank, 3, False, *COMPILED),
        "bf16": run(rank, 3, True),
        "compiled in bf16": run(rank, 3, True, *COMPILED),
    }
    graphs = {"graphs": counters["stats"]["unique_graphs"], **counters["graph_break"]}
    found["compiled between hooks"] = run(rank, 3, False, *MODULES)
    return {"runs": found, **graphs}


def test_the_losses_are_the_plain_runs():
    for rank in run_ranks(RANKS, job):
        runs = rank.pop("runs")
        losses = {name: values for name, (values, _) in runs.items()}
        for one, other, tolerance in (
            ("chunked", "plain", 1e-6),
            ("chunked and tied", "tied", 1e-6),
            ("compiled", "plain", 1e-6),
            ("compiled between hooks", "plain", 1e-6),
            # gradients of the loss are rounded to 8 bits in another place
            ("compiled in bf16", "bf16", 1e-2),
        ):
            assert losses[one] == pytest.approx(losses[other], rel=tolerance), one
            assert len(set(losses[one])) == len(losses[one])
        assert runs["compiled"][1] == runs["plain"][1]
        # a layer's and a chunk's, and again in bf16: none for each layer, no break
        assert rank == {"graphs": 4}


def in_earnest(rank: int, stage: int) -> list[list[float]]:
    init_deepspeed()
    return [run(rank, stage, False, *arguments)[0] for arguments in ((), COMPILED, MODULES)]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("stage", [2, 3])
def test_a_compiled_model_trains_as_the_plain_one(stage):
    for plain, *compiled in run_ranks(RANKS, in_earnest, stage):
        for losses in compiled:
            assert losses == pytest.approx(plain, rel=1e-6)
