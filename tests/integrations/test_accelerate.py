"""AlphaDecay on what `accelerator.prepare` returns: one process, DDP ranks, accumulation, saves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from alphadecay import AlphaDecay
from tests.distributed.harness import run_ranks
from tests.integrations import loops

pytestmark = pytest.mark.integrations
accelerate: Any = pytest.importorskip("accelerate", reason="made by make integrations")
STEPS = 12
INTERVAL = 4


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """Accelerate keeps its set-up in classes."""
    yield
    forget()


def forget() -> None:
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def prepared(kind: str, **options: Any) -> tuple[Any, Any, list[Any]]:
    """(accelerator, wrapped model, wrapped optimizers)."""
    accelerator = accelerate.Accelerator(cpu=True, **options)
    model = loops.Net()
    wrapped, *optimizers = accelerator.prepare(model, *loops.OPTIMIZERS[kind](model))
    return accelerator, wrapped, optimizers


def zero_gradient_step(kind: str) -> str:
    """Check a step; return what the model was wrapped in."""
    accelerator, model, optimizers = prepared(kind)
    decay = AlphaDecay(model, optimizers, interval=INTERVAL)

    def step() -> None:
        accelerator.backward(loops.zero_loss(model))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    loops.check_zero_gradient_step(accelerator.unwrap_model(model), decay, step, kind)
    decay.step()
    return type(model).__name__


@pytest.mark.parametrize("kind", loops.OPTIMIZERS)
def test_a_zero_gradient_step_decays_by_module(kind: str) -> None:
    assert zero_gradient_step(kind) == "Net"


def on_a_rank(rank: int) -> list[str]:
    wrappers = []
    for kind in loops.OPTIMIZERS:
        wrappers.append(zero_gradient_step(kind))
    return wrappers


def test_a_zero_gradient_step_decays_by_module_on_two_ranks() -> None:
    ranks = run_ranks(2, on_a_rank)
    assert ranks == [["DistributedDataParallel"] * 3] * 2


@pytest.mark.parametrize("kind", loops.OPTIMIZERS)
def test_accumulation_counts_optimizer_steps(kind: str) -> None:
    accelerator, model, optimizers = prepared(kind, gradient_accumulation_steps=4)
    decay = AlphaDecay(model, optimizers, interval=INTERVAL)
    steps: list[int] = []
    optimizers[0].optimizer.register_step_post_hook(lambda *_: steps.append(1))
    refreshed = []
    for micro in range(4 * STEPS):
        with accelerator.accumulate(model):
            input_ids = loops.tokens(micro)
            accelerator.backward(loops.loss_of(model(input_ids), input_ids))
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            if decay.step():
                refreshed.append((micro + 1, len(steps)))
    # step 4, 8 and 12 run on the weights before them
    assert refreshed == [(12, 3), (28, 7), (44, 11)]
    assert len(steps) == STEPS
    assert decay.last_refresh_step == 12


def test_accumulated_micro_batches_train_as_one_batch() -> None:
    accelerator, model, optimizers = prepared("stock", gradient_accumulation_steps=2)
    decay = AlphaDecay(model, optimizers, interval=INTERVAL)
    for step in range(STEPS):
        input_ids = loops.tokens(step)
        for half in input_ids.chunk(2):
            with accelerator.accumulate(model):
                accelerator.backward(loops.loss_of(model(half), half))
                optimizers[0].step()
                optimizers[0].zero_grad()
                decay.step()
    plain = loops.Net()
    plain_optimizers = loops.stock(plain)
    oracle = AlphaDecay(plain, plain_optimizers, interval=INTERVAL)
    loops.train(plain, plain_optimizers, oracle, STEPS)
    assert decay.weight_decays == pytest.approx(oracle.weight_decays, rel=1e-3)
    distance = max(
        float((weight - other).abs().max())
        for weight, other in zip(
            loops.snapshot(model).values(), loops.snapshot(plain).values(), strict=True
        )
    )
    # half batches add up in another order, and Adam's division passes that on
    assert distance < 0.02 * loops.ADAMW.lr


def test_a_saved_state_goes_on_as_if_uninterrupted(tmp_path: Path) -> None:
    def run(first: int, steps: int, resume: bool) -> tuple[Any, AlphaDecay]:
        forget()
        accelerator, model, optimizers = prepared("muon")
        decay = AlphaDecay(model, optimizers, interval=INTERVAL)
        accelerator.register_for_checkpointing(decay)
        if resume:
            accelerator.load_state(str(tmp_path / "state"))
        loops.train(model, optimizers, decay, steps, first)
        if not resume and steps < STEPS:
            accelerator.save_state(str(tmp_path / "state"))
        return loops.snapshot(model), decay

    run(0, 6, resume=False)
    whole, oracle = run(0, STEPS, resume=False)
    resumed, decay = run(6, STEPS - 6, resume=True)
    assert decay.state_dict() == oracle.state_dict()
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())


def test_a_second_controller_is_refused() -> None:
    _, model, optimizers = prepared("stock")
    first = AlphaDecay(model, optimizers, interval=INTERVAL)
    with pytest.raises(ValueError, match="has an AlphaDecay already"):
        AlphaDecay(model, optimizers[0].optimizer, interval=INTERVAL)
    first.remove()
    AlphaDecay(model, optimizers, interval=INTERVAL)
