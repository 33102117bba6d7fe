"""Decays and alphas through DeepSpeed's universal checkpoints: 2 -> 4 -> 1 -> 2 ranks, stages 2 and
3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from alphadecay import AdamW
from tests.distributed import reference
from tests.distributed.harness import run_ranks
from tests.distributed.universal import config_of, convert
from tests.distributed.wrapping import gathered
from tests.distributed.zero3 import ROWS, build, one_step


def leg(rank: int, stage: int, world_size: int, source: str, target: str) -> dict[str, Any]:
    """Loads `source` if there is one, takes two steps, saves to `target`."""
    engine, decay = build(AdamW, config_of(stage, world_size, bool(source)), interval=3)
    loaded = None
    if source:
        _, client_state = engine.load_checkpoint(source, tag="universal")
        decay.load_state_dict(client_state["alphadecay"])
        loaded = decay.state_dict(), gathered(engine)
    for step in range(engine.global_steps + 1, engine.global_steps + 3):
        one_step(engine, decay, step, rank, world_size, ROWS // world_size)
    saved = decay.state_dict()
    weights = gathered(engine)
    engine.save_checkpoint(target, tag="t", client_state={"alphadecay": saved})
    groups = [group["weight_decay"] for group in engine.optimizer.param_groups]
    return {
        "loaded": loaded,
        "saved": (saved, weights),
        "groups": groups,
        "decays": decay.weight_decays,
        "step": engine.global_steps,
    }


@pytest.mark.parametrize("stage", [2, 3])
def test_every_world_size_goes_on_with_the_same_decays(tmp_path: Path, stage: int) -> None:
    source = ""
    before = None
    for turn, world_size in enumerate((2, 4, 1, 2)):
        target = tmp_path / str(turn)
        ranks = run_ranks(world_size, leg, stage, world_size, source, str(target))
        for rank in ranks:
            assert rank["groups"] == [reference.WEIGHT_DECAY]
            assert rank["decays"] == ranks[0]["decays"]
            assert rank["step"] == 2 * (turn + 1)
            if before is not None:
                assert repr(rank["loaded"][0]) == repr(before[0])
                assert all(
                    (rank["loaded"][1][name] == weight).all() for name, weight in before[1].items()
                )
        before = ranks[0]["saved"]
        convert(target)
        source = str(target)
    weights, _ = reference.train_unsharded(torch.optim.AdamW, 8, ROWS, 3, 0.5)
    assert (
        max((before[1][name] - weight).abs().max() for name, weight in weights.items())
        < 0.02 * reference.LR
    )
