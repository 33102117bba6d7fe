"""A run cut while a spread refresh is under way goes on, on as many ranks or fewer, with the decays
of a run that was not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from alphadecay import AdamW
from tests.distributed.harness import run_ranks
from tests.distributed.universal import config_of, convert
from tests.distributed.wrapping import gathered
from tests.distributed.zero3 import ROWS, TOLERANCE, build, one_step

# Measured after step 3, solved over three steps, in force from step 7; saved after step 4, with
# most of it still to be solved.
INTERVAL = 4
SPREAD = 3
SAVED = 4
STEPS = 7
APPLIED = 7


def whole_rank(rank: int, folder: str) -> dict[str, Any]:
    """Saves after step 4 where a folder is given, and ends there; else goes on to the end."""
    engine, decay = build(AdamW, config_of(3, 2, False), interval=INTERVAL, spread=SPREAD)
    history = {}
    for step in range(1, (SAVED if folder else STEPS) + 1):
        history[step] = decay.weight_decays
        one_step(engine, decay, step, rank, 2, ROWS // 2)
    solving = decay.solving
    if folder:
        engine.save_checkpoint(folder, tag="t", client_state={"alphadecay": decay.state_dict()})
    return {"history": history, "weights": gathered(engine), "solving": solving}


def resumed_rank(rank: int, world: int, folder: str) -> dict[str, Any]:
    engine, decay = build(AdamW, config_of(3, world, world != 2), interval=INTERVAL, spread=SPREAD)
    _, client_state = engine.load_checkpoint(folder, tag="t" if world == 2 else "universal")
    decay.load_state_dict(client_state["alphadecay"])
    history = {}
    for step in range(engine.global_steps + 1, STEPS + 1):
        history[step] = decay.weight_decays
        one_step(engine, decay, step, rank, world, ROWS // world)
    return {"history": history, "weights": gathered(engine), "last": decay.last_refresh_step}


def test_decays_of_a_pending_refresh_outlive_a_resume(tmp_path: Path) -> None:
    straight = run_ranks(2, whole_rank, "")[0]
    changed = [
        step
        for step in range(2, STEPS + 1)
        if straight["history"][step] != straight["history"][step - 1]
    ]
    assert changed == [APPLIED]
    assert all(rank["solving"] for rank in run_ranks(2, whole_rank, str(tmp_path)))
    convert(tmp_path)
    for world in (2, 1):
        for rank in run_ranks(world, resumed_rank, world, str(tmp_path)):
            assert rank["history"] == {
                step: straight["history"][step] for step in range(SAVED + 1, STEPS + 1)
            }
            assert rank["last"] == APPLIED
            for name, weight in straight["weights"].items():
                # On as many ranks bit for bit; one rank adds the gradients in another order.
                torch.testing.assert_close(
                    rank["weights"][name],
                    weight,
                    rtol=0,
                    atol=0.0 if world == 2 else TOLERANCE,
                    msg=name,
                )
