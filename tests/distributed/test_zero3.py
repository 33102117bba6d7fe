"""AlphaDecay under ZeRO-3 against the unsharded oracle, on real gloo ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from alphadecay import Adam, AdamW
from tests.distributed import reference
from tests.distributed.harness import run_ranks
from tests.distributed.wrapping import gathered
from tests.distributed.zero3 import (
    CLIP,
    INTERVAL,
    ROWS,
    STEPS,
    TOLERANCE,
    build,
    ds_config,
    one_step,
)


def zero3_rank(
    rank: int, world_size: int, micro: int, kind: type, zero: dict[str, Any]
) -> dict[str, Any]:
    engine, decay = build(kind, ds_config(world_size, micro, **zero))
    whole = max(p.numel() for p in engine.module.parameters() if p.ds_numel > 50)
    history = [decay.weight_decays]
    refreshed = []
    for step in range(1, STEPS + 1):
        if one_step(engine, decay, step, rank, world_size, micro):
            history.append(decay.weight_decays)
            refreshed.append(decay.last_refresh_step)
    return {
        "weights": gathered(engine),
        "history": history,
        "refreshed": refreshed,
        "largest_whole": whole,
        "owners": decay.plan.owners,
        "elements": decay._attachment.fragments[0].elements,
    }


@pytest.mark.parametrize(
    ("world_size", "micro", "kind", "zero"),
    [
        pytest.param(2, 6, AdamW, {}, id="two-ranks"),
        pytest.param(2, 3, Adam, {}, id="two-ranks-accumulation-l2"),
        pytest.param(3, 4, AdamW, {"sub_group_size": 3000}, id="three-ranks-sub-groups"),
        pytest.param(1, 12, AdamW, {}, id="one-rank"),
        pytest.param(2, 6, AdamW, {"zero_hpz_partition_size": 2}, id="two-ranks-hpz"),
        pytest.param(
            2, 6, AdamW, {"offload_param": {"device": "cpu"}}, id="two-ranks-offloaded-parameters"
        ),
    ],
)
def test_ends_where_the_unsharded_run_ends(
    world_size: int, micro: int, kind: type, zero: dict[str, Any]
) -> None:
    stock = torch.optim.AdamW if kind is AdamW else torch.optim.Adam
    weights, history = reference.train_unsharded(stock, STEPS, ROWS, INTERVAL, CLIP)
    ranks = run_ranks(world_size, zero3_rank, world_size, micro, kind, zero)

    assert ranks[0]["refreshed"] == [4, 8]
    assert ranks[0]["largest_whole"] == 0  # between steps no rank holds a matrix whole
    for rank in ranks:
        assert rank["history"] == ranks[0]["history"]  # bit for bit
    for ours, oracle in zip(ranks[0]["history"], history, strict=True):
        assert ours.keys() == oracle.keys()
        assert all(ours[name] == pytest.approx(oracle[name], rel=1e-3) for name in oracle)
    for name, expected in weights.items():
        torch.testing.assert_close(
            ranks[0]["weights"][name],
            expected,
            rtol=0,
            atol=TOLERANCE,
            msg=lambda m, n=name: f"{n}: {m}",
        )
    numel = {name: weights[name].numel() for name in history[0]}
    # decay reaches every element once
    assert {name: sum(rank["elements"][name] for rank in ranks) for name in numel} == numel


def test_oracle_differs_without_module_wise_decay() -> None:
    """The tolerance above is tight enough to see a uniform decay: by the oracle alone."""
    weights, _ = reference.train_unsharded(torch.optim.AdamW, STEPS, ROWS, INTERVAL, CLIP)
    uniform, _ = reference.train_unsharded(torch.optim.AdamW, STEPS, ROWS, 10**9, CLIP)
    far = [name for name in weights if (weights[name] - uniform[name]).abs().max() > TOLERANCE]
    assert far


def resumed_rank(rank: int, folder: str) -> dict[str, Any]:
    config = ds_config(2, 6)
    engine, decay = build(AdamW, config)
    for step in range(1, 6):
        one_step(engine, decay, step, rank, 2, 6)
    saved = decay.state_dict()
    engine.save_checkpoint(folder, tag="t", client_state={"alphadecay": saved})
    for step in range(6, STEPS + 1):
        one_step(engine, decay, step, rank, 2, 6)
    straight = gathered(engine), decay.weight_decays

    engine, decay = build(AdamW, config)
    _, client_state = engine.load_checkpoint(folder, tag="t")
    decay.load_state_dict(client_state["alphadecay"])
    same = decay.state_dict() == saved
    groups = [group["weight_decay"] for group in engine.optimizer.param_groups]
    for step in range(6, STEPS + 1):
        one_step(engine, decay, step, rank, 2, 6)
    return {
        "straight": straight,
        "resumed": (gathered(engine), decay.weight_decays),
        "same": same,
        "groups": groups,
    }


def test_resumed_run_is_bit_equal(tmp_path: Any) -> None:
    for rank in run_ranks(2, resumed_rank, str(tmp_path)):
        assert rank["same"]
        # the base decay, of which each module has its ratio
        assert rank["groups"] == [reference.WEIGHT_DECAY]
        assert rank["resumed"][1] == rank["straight"][1]
        for name, weight in rank["straight"][0].items():
            assert torch.equal(rank["resumed"][0][name], weight), name


def disagreeing_rank(rank: int, how: str) -> str:
    """What rank 1 meets with decays of its own: from a refresh, from a state, or from a state that
    cannot be loaded at all.
    """
    _, decay = build(AdamW, ds_config(2, 6))
    state = decay.state_dict()
    name = next(iter(state["modules"]))
    if rank == 1:
        if how == "refresh":
            decay.config = replace(decay.config, s2=decay.config.s2 * (1.0 + 1e-15))
        state["modules"][name]["ratio"] *= 1.0 + 1e-15
        state |= {"version": 0} if how == "broken" else {}
    try:
        decay.refresh() if how == "refresh" else decay.load_state_dict(state)
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("how", ["refresh", "state", "broken"])
def test_ranks_with_other_decays_stop_and_are_named(how: str) -> None:
    for message in run_ranks(2, disagreeing_rank, how):
        assert (
            "weight decays differ between ranks"
            if how == "refresh"
            else "given to load differ between ranks"
        ) in message
        assert "[1]" in message


def overflow_rank(rank: int) -> tuple[bool, int]:
    """A step on Inf gradients must change no weight, decay included."""
    config = ds_config(2, 6, clip=0.0) | {"bf16": {"enabled": True, "check_grad_overflow": True}}
    engine, decay = build(AdamW, config)
    before = gathered(engine)
    share = reference.tokens(1, ROWS).reshape(1, 2, 6, reference.LENGTH)[0, rank]
    loss = engine(input_ids=share, labels=share).loss
    engine.backward(loss * (float("inf") if rank == 1 else 1.0))
    engine.step()
    decay.step()
    after = gathered(engine)
    return all(torch.equal(before[name], after[name]) for name in before), int(engine.skipped_steps)


def test_a_skipped_step_skips_its_decay() -> None:
    assert run_ranks(2, overflow_rank) == [(True, 1), (True, 1)]


def spread_rank(rank: int, spread: int, save_at: int) -> dict[str, Any]:
    """Decays at every step; `state_dict()` is called at step `save_at`, while a refresh is under
    way.
    """
    engine, decay = build(AdamW, ds_config(2, 6), interval=4, spread=spread)
    history = []
    for step in range(1, STEPS + 1):
        history.append(decay.weight_decays)
        one_step(engine, decay, step, rank, 2, 6)
        if step == save_at:
            decay.state_dict()
    return {"history": history, "weights": gathered(engine), "last": decay.last_refresh_step}


def test_a_spread_refresh_sets_the_same_decays_on_every_rank_at_a_fixed_step() -> None:
    plain = run_ranks(2, spread_rank, 3, 0)
    saved = run_ranks(2, spread_rank, 3, 5)
    assert plain[0]["history"] == plain[1]["history"] == saved[0]["history"] == saved[1]["history"]
    changes = [
        step
        for step in range(2, STEPS + 1)
        if plain[0]["history"][step - 1] != plain[0]["history"][step - 2]
    ]
    assert changes == [7]  # measured before step 4, three steps later in force
    assert plain[0]["last"] == 7
    for name, weight in plain[0]["weights"].items():
        assert torch.equal(weight, saved[0]["weights"][name])
