"""Shapes that no number of ranks divides under ZeRO-2 and 3: the same alphas, decays and weights as
one process without shards.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alphadecay import AdamW, AlphaDecay
from tests.distributed.harness import run_ranks
from tests.distributed.nets import INTERVAL, ROWS, STEPS, check, run, zero_engine
from tests.distributed.wrapping import gathered


def zero_rank(rank: int, world: int, stage: int) -> dict[str, Any]:
    engine = zero_engine(world, stage)
    decay = AlphaDecay(engine, interval=INTERVAL)
    history = [(decay.alphas, decay.weight_decays)]
    for step in range(STEPS):
        batch = torch.randn(ROWS, 24, generator=torch.Generator().manual_seed(step)).reshape(
            world, -1, 24
        )[rank]
        engine.backward(engine(batch).square().mean())
        engine.step()
        if decay.step():
            history.append((decay.alphas, decay.weight_decays))
    return {
        "weights": gathered(engine),
        "history": history,
        "statuses": decay.statuses,
        "elements": decay._attachment.fragments[0].elements,
        "owned": sum(owner == decay._sharding.rank for owner in decay.plan.owners.values()),
    }


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("world", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_equals_one_process(world: int, stage: int) -> None:
    check(run_ranks(world, zero_rank, world, stage), run(0, 1, "", AdamW), copies=1)
