"""FSDP2 through torch.distributed.checkpoint: model, optimizer and AlphaDecay saved on 2 ranks go
on on 4, 1 and 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from alphadecay import AdamW, AlphaDecay
from tests.distributed.harness import run_ranks
from tests.distributed.nets import INTERVAL, ROWS, Net
from tests.distributed.wrapping import wrap

LEGS = (2, 4, 1, 2)
STEPS_A_LEG = 2


def leg(rank: int, world: int, source: str, target: str) -> dict[str, Any]:
    """Loads `source` if there is one, takes two steps, saves to `target`.

    AlphaDecay is a Stateful: DCP calls its own two methods.
    """
    model = wrap(Net(), "fsdp2")
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=INTERVAL)
    loaded = None
    if source:
        weights, moments = get_state_dict(model, optimizer)
        dcp.load(
            {"model": weights, "optimizer": moments, "alphadecay": decay}, checkpoint_id=source
        )
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)
        loaded = decay.state_dict()
    first = int(loaded["step"]) if loaded else 0
    for step in range(first, first + STEPS_A_LEG):
        batch = torch.randn(ROWS, 24, generator=torch.Generator().manual_seed(step)).reshape(
            world, -1, 24
        )[rank]
        model(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    weights, moments = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": moments, "alphadecay": decay}, checkpoint_id=target)
    whole = {
        name: parameter.full_tensor().detach().clone()
        for name, parameter in model.named_parameters()
    }
    groups = [group["weight_decay"] for group in optimizer.param_groups]
    return {"loaded": loaded, "saved": decay.state_dict(), "weights": whole, "groups": groups}


def test_every_world_size_goes_on_with_the_same_decays(tmp_path: Path) -> None:
    source = ""
    before = None
    for turn, world in enumerate(LEGS):
        target = str(tmp_path / str(turn))
        ranks = run_ranks(world, leg, world, source, target)
        assert all(
            repr(rank["saved"]) == repr(ranks[0]["saved"]) and rank["groups"] == [0.1]
            for rank in ranks
        )
        if before is not None:
            assert all(repr(rank["loaded"]) == repr(before) for rank in ranks)
        before = ranks[0]["saved"]
        source = target
    (alone,) = run_ranks(1, uninterrupted)
    for name, weight in alone.items():
        torch.testing.assert_close(
            ranks[0]["weights"][name], weight, rtol=0, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


# measured after step 3, in force from step 7
SPREAD_INTERVAL = 4
SPREAD = 3
SAVED = 4
LAST = 8


def spread_rank(rank: int, source: str, target: str) -> dict[int, str]:
    """The alphas of each step: from the start to SAVED where there is a target, else to LAST, or on
    from `source`.
    """
    model = wrap(Net(), "fsdp2")
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=SPREAD_INTERVAL, spread=SPREAD)
    if source:
        weights, moments = get_state_dict(model, optimizer)
        dcp.load(
            {"model": weights, "optimizer": moments, "alphadecay": decay}, checkpoint_id=source
        )
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)
    history = {}
    for step in range(SAVED if source else 0, SAVED if target else LAST):
        model(
            torch.randn(4, 24, generator=torch.Generator().manual_seed(2 * step + rank))
        ).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
        history[step + 1] = repr(decay.alphas)  # two matrices have the same two decays for ever
    if target:
        weights, moments = get_state_dict(model, optimizer)
        dcp.save(
            {"model": weights, "optimizer": moments, "alphadecay": decay}, checkpoint_id=target
        )
    return history


def test_a_pending_refresh_comes_back(tmp_path: Path) -> None:
    straight = run_ranks(2, spread_rank, "", "")[0]
    # set after step 6, for step 7
    assert [step for step in range(2, LAST + 1) if straight[step] != straight[step - 1]] == [6]
    run_ranks(2, spread_rank, "", str(tmp_path))
    for history in run_ranks(2, spread_rank, str(tmp_path), ""):
        assert history == {step: straight[step] for step in range(SAVED + 1, LAST + 1)}


def uninterrupted(rank: int) -> dict[str, torch.Tensor]:
    """The same steps in one go, on one rank and unsharded."""
    model = Net()
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=INTERVAL)
    for step in range(STEPS_A_LEG * len(LEGS)):
        batch = torch.randn(ROWS, 24, generator=torch.Generator().manual_seed(step))
        model(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
