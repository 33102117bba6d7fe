"""A loop in nanochat's manner: Muon and AdamW, each with its schedules, and no framework at all."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import nn

from alphadecay import AlphaDecay
from tests.distributed.harness import run_ranks
from tests.integrations import loops

pytestmark = pytest.mark.integrations
STEPS = 16
INTERVAL = 4


def linear_to_zero(step: int) -> float:
    """nanochat's: 0 at the last step."""
    return 1.0 - step / (STEPS - 1)


def to_zero_and_back(step: int) -> float:
    """0 from step 4 to step 8, over a refresh, and up again."""
    return max(0.0, abs(step - 6) - 2.0) / 7.0 if step else 1.0


def cosine_up(step: int) -> float:
    """DINO's: rises to tenfold."""
    return 10.0 - 9.0 * (1.0 + math.cos(math.pi * step / STEPS)) / 2.0


SCHEDULES: dict[str, Callable[[int], float]] = {
    "linear to zero": linear_to_zero,
    "to zero and back": to_zero_and_back,
    "cosine up": cosine_up,
}


def set_rates(optimizers: list[torch.optim.Optimizer], step: int, scale: float) -> float:
    """Write the step's rates into the groups, as the loop does; return the rates' multiplier."""
    rate = min(1.0, (1 + step) / 4)
    for optimizer, rule in zip(optimizers, (loops.MUON, loops.ADAMW), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rule.lr * rate
            group["weight_decay"] = rule.weight_decay * scale
    optimizers[0].param_groups[0]["momentum"] = 0.85 + 0.1 * rate
    return rate


def average_gradients(model: nn.Module) -> None:
    """Average over the ranks by hand."""
    if dist.is_initialized():
        for parameter in model.parameters():
            assert parameter.grad is not None
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


def run(schedule: Callable[[int], float], zero: bool) -> tuple[list[int], dict[str, float], float]:
    """Train; on zero gradients compare each step with what the schedule owes every weight.

    Returns:
        Where the decays were refreshed, the last decays, and the largest error.
    """
    model = loops.Net()
    optimizers = loops.muon(model)
    decay = AlphaDecay(model, optimizers, interval=INTERVAL)
    ratios = dict(decay.weight_decays)
    refreshed = []
    errors = [0.0]
    for step in range(STEPS):
        scale = schedule(step)
        rate = set_rates(optimizers, step, scale)
        input_ids = loops.tokens(step)
        loss = loops.loss_of(model(input_ids), input_ids)
        (loss * 0.0 if zero else loss).backward()
        average_gradients(model)
        before = loops.snapshot(model)
        owed = loops.expected_factors(decay, before, "muon", scale)
        factors = {name: 1.0 - rate * (1.0 - factor) for name, factor in owed.items()}
        for name, own in decay.weight_decays.items():
            if not refreshed:
                assert own == pytest.approx(ratios[name] * scale, rel=1e-12)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if zero:
            errors.append(loops.worst(before, loops.snapshot(model), factors)[0])
        for optimizer, rule in zip(optimizers, (loops.MUON, loops.ADAMW), strict=True):
            assert optimizer.param_groups[0]["weight_decay"] == rule.weight_decay * scale
        if decay.step():
            refreshed.append(step + 1)
    return refreshed, decay.weight_decays, max(errors)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_step_decays_by_the_schedule_and_the_module(name: str) -> None:
    refreshed, decays, error = run(SCHEDULES[name], zero=True)
    assert error <= loops.TOLERANCE
    assert refreshed == [3, 7, 11, 15]
    base = loops.MUON.weight_decay * SCHEDULES[name](STEPS - 1)
    spread = {name: value / base for name, value in decays.items()} if base else decays
    assert set(decays) == set(loops.MATRICES)
    assert (min(spread.values()), max(spread.values())) == pytest.approx(
        (0.67, 5.0) if base else (0.0, 0.0)
    )


def test_a_decay_of_zero_is_a_run_without_decay() -> None:
    def no_decay(step: int) -> float:
        return 0.0

    weights = []
    for watched in (True, False):
        model = loops.Net()
        optimizers = loops.muon(model)
        if watched:
            decay = AlphaDecay(model, optimizers, interval=INTERVAL)
        for step in range(STEPS):
            set_rates(optimizers, step, no_decay(step))
            input_ids = loops.tokens(step)
            loops.loss_of(model(input_ids), input_ids).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            if watched:
                decay.step()
        weights.append(loops.snapshot(model))
    assert all(torch.equal(weights[0][name], weight) for name, weight in weights[1].items())


def on_a_rank(rank: int) -> list[tuple[list[int], dict[str, float], float]]:
    runs = [run(schedule, zero=True) for schedule in SCHEDULES.values()]
    return [*runs, run(linear_to_zero, zero=False)]


def test_the_same_on_two_ranks_that_average_gradients_by_hand() -> None:
    ranks = run_ranks(2, on_a_rank)
    assert ranks[0] == ranks[1]
    assert max(error for _, _, error in ranks[0]) <= loops.TOLERANCE
    assert [refreshed for refreshed, _, _ in ranks[0]] == [[3, 7, 11, 15]] * 4


def test_one_optimizer_of_two_is_refused() -> None:
    model = loops.Net()
    muon, adamw = loops.muon(model)
    with pytest.raises(ValueError, match=r"does not hold down\.weight.*\[muon, adamw\]"):
        AlphaDecay(model, adamw)
    AlphaDecay(model, [muon, adamw])


def test_an_optimizer_that_does_not_step_is_noticed() -> None:
    model = loops.Net()
    optimizers = loops.muon(model)
    decay = AlphaDecay(model, optimizers, interval=INTERVAL)
    copy = loops.muon(model)
    for step in range(2):
        input_ids = loops.tokens(step)
        loops.loss_of(model(input_ids), input_ids).backward()
        copy[0].step()
        if step == 0:
            decay.step()
    with pytest.raises(RuntimeError, match="have not decayed them"):
        decay.step()
