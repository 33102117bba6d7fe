"""Compiled layers and the loss in chunks under ZeRO-3 on two ranks: the plain run's losses.

Refreshes and evaluations lie between the steps. The compiler runs traced graphs as they are but for
the slow test, which compiles in earnest.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from alphadecay import AlphaDecay
from tests.distributed.harness import init_deepspeed, run_ranks
from train.config.command_line import load_config
from train.engines.deepspeed import build_engine
from train.models import chunked_loss

RANKS = 2
LENGTH = 12
LAYERS = 3
STEPS = 3
VOCABULARY = 67
ARGUMENTS = (
    f"--model.vocab_size={VOCABULARY}",
    "--model.hidden_size=16",
    "--model.intermediate_size=24",
    f"--model.num_layers={LAYERS}",
    "--model.num_heads=2",
    f"--data.sequence_length={LENGTH}",
    "--optim.lr=0.01",
)


def ds_config(stage: int, bf16: bool) -> dict[str, Any]:
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
        "bf16": {"enabled": bf16},
        "zero_optimization": {"stage": stage},
    }
    if stage == 3:
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 32
    return config


def tokens(rank: int, index: int) -> Tensor:
    generator = torch.Generator().manual_seed(100 * index + rank)
    return torch.randint(VOCABULARY, (2, LENGTH), generator=generator)


def run(rank: int, stage: int, bf16: bool, *arguments: str) -> tuple[list[float], list[str]]:
    """Return the losses of a few steps, and the names of the model's state."""
    engine = build_engine(load_config([*ARGUMENTS, *arguments]), ds_config(stage, bf16))
    decay = AlphaDecay(engine.handle, interval=2)
    losses = []
    for index in range(2 * STEPS):
        if index in (0, 4):
            with torch.no_grad(), engine.evaluating() as logits_of:
                losses.append(float(logits_of(tokens(rank, 0)).float().logsumexp(-1).mean()))
        batch = tokens(rank, index)
        labels = batch.masked_fill(batch % 5 == index % 5, chunked_loss.IGNORED)
        loss = engine.forward(batch, labels)
        engine.backward(loss)
        engine.step()
        decay.step()
        losses.append(float(loss.detach()))
    return losses, list(engine.module.state_dict())


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
    compiled = ("--model.compile=true", "--model.fused_cross_entropy=chunked")
    found = {
        "plain": run(rank, 3, False),
        "chunked": run(rank, 3, False, "--model.fused_cross_entropy=chunked"),
        "chunked and tied": run(
            rank, 3, False, "--model.fused_cross_entropy=chunked", "--model.tie_embeddings=true"
        ),
        "tied": run(rank, 3, False, "--model.tie_embeddings=true"),
        "compiled": run(rank, 3, False, *compiled),
        "bf16": run(rank, 3, True),
        "compiled in bf16": run(rank, 3, True, *compiled),
    }
    return {"runs": found, "graphs": counters["stats"]["unique_graphs"], **counters["graph_break"]}


def test_the_losses_are_the_plain_runs():
    for rank in run_ranks(RANKS, job):
        runs = rank.pop("runs")
        losses = {name: values for name, (values, _) in runs.items()}
        for one, other, tolerance in (
            ("chunked", "plain", 1e-6),
            ("chunked and tied", "tied", 1e-6),
            ("compiled", "plain", 1e-6),
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
    compiled = ("--model.compile=true", "--model.fused_cross_entropy=chunked")
    return [run(rank, stage, False, *arguments)[0] for arguments in ((), compiled)]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("stage", [2, 3])
def test_a_compiled_model_trains_as_the_plain_one(stage):
    for plain, compiled in run_ranks(RANKS, in_earnest, stage):
        assert compiled == pytest.approx(plain, rel=1e-6)
