"""ZeRO-3 with each decoder layer as a leaf: one gather a layer, the unsharded model's gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.bench.counting import CountCollectives
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.distributed.tiny_engine import (
    ARGUMENTS,
    LAYERS,
    LENGTH,
    ds_config,
    losses_of,
    tokens,
)
from tests.engines import loss_of_text
from train.config.command_line import load_config
from train.engines.deepspeed import DeepSpeedEngine, build_engine
from train.models import spec_of
from train.models.build import build_model

RANKS = 2
STEPS = 5


def build(leaf: bool, recompute: bool, bf16: bool = False, **zero: Any) -> DeepSpeedEngine:
    arguments = (
        *ARGUMENTS,
        f"--deepspeed.leaf_layers={leaf}",
        f"--model.activation_checkpointing={recompute}",
    )
    return build_engine(load_config(list(arguments)), ds_config(3, bf16, **zero))


def run(rank: int, leaf: bool, recompute: bool, bf16: bool) -> list[float]:
    return losses_of(build(leaf, recompute, bf16), rank, STEPS)


def losses(rank: int) -> dict[str, list[float]]:
    """Run with and without leaves: plainly, with recomputation, and in bf16."""
    return {
        "modules": run(rank, leaf=False, recompute=False, bf16=False),
        "leaves": run(rank, leaf=True, recompute=False, bf16=False),
        "leaves, recomputing": run(rank, leaf=True, recompute=True, bf16=False),
        "modules, bf16": run(rank, leaf=False, recompute=False, bf16=True),
        "leaves, bf16": run(rank, leaf=True, recompute=False, bf16=True),
    }


def gathers(leaf: bool, recompute: bool, expected: list[Tensor]) -> list[int]:
    """Count the gathers of each micro step, without prefetching; all ranks have one batch."""
    import deepspeed

    engine = build(leaf, recompute, stage3_prefetch_bucket_size=0)
    batch = tokens(0, 0)
    counts = []
    for micro_step in range(4):
        with CountCollectives() as collectives:
            engine.backward(loss_of_text(engine, batch))
        counts.append(sum(n for call, n in collectives.calls.items() if "gather" in call))
        if micro_step == 1 and leaf:  # the mean of two equal batches is that of one
            read = [deepspeed.utils.safe_get_full_grad(p) for p in engine.module.parameters()]
            assert all(torch.equal(one, two) for one, two in zip(read, expected, strict=True))
        engine.step()
    return counts


def job(rank: int) -> dict[str, Any]:
    init_deepspeed()
    config = load_config(list(ARGUMENTS))
    plain = build_model(config.model, LENGTH, config.run.seed_of_init)
    plain(input_ids=tokens(0, 0), labels=tokens(0, 0)).loss.backward()
    expected: list[Any] = [parameter.grad for parameter in plain.parameters()]
    return {
        "losses": losses(rank),
        "leaves": gathers(True, False, expected),
        "leaves, recomputing": gathers(True, True, expected),
        "modules": gathers(False, False, expected),
    }


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    """Return what every rank found; with leaves it compared every bit of the gradients, too."""
    return run_ranks(RANKS, job)


def test_the_losses_are_those_without_leaves(results: list[dict[str, Any]]) -> None:
    for rank in results:
        found = rank["losses"]
        # v, k and q add their gradients in the model's own order, which hooks of each would change
        for name in ("leaves", "leaves, recomputing"):
            assert found[name] == pytest.approx(found["modules"], rel=1e-6)
        assert found["leaves, bf16"] == pytest.approx(found["modules, bf16"], rel=1e-2)
        assert len(set(found["leaves"])) == len(found["leaves"])


def test_one_gather_a_layer(results: list[dict[str, Any]]) -> None:
    for rank in results:
        others = 3  # embedding, last norm, head
        # The first pass releases all; once traced, the forward's are kept for the backward.
        # From the second step on norm gains persist.
        counts = [2 * (LAYERS + others), LAYERS + others, LAYERS + others - 1]
        assert rank["leaves"][:3] == rank["leaves, recomputing"][:3] == counts
        assert rank["modules"][2] == 7 * LAYERS + others - 1


def test_which_modules_are_layers():
    config = load_config(list(ARGUMENTS)).model
    spec = spec_of(config)
    model = spec.bare(spec.config(config, LENGTH))
    assert [id(layer) for layer in spec.layers(model)] == [id(one) for one in model.model.layers]
