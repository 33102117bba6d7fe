"""The FSDP2 engine, whatever the ranks, trains as one process does with torch alone: the same
losses and decays under every method; its checkpoints go on at any number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from alphadecay.inspect.plan.memory import predict_memory
from tests.bench.counting import CountCollectives
from tests.distributed.engine_runs import (
    CPU,
    ENGINES,
    LENGTH,
    ROWS,
    STEPS,
    Run,
    Trained,
    alone,
    assert_same,
    config_of,
    method,
    rows_of,
    sharded,
    solving_in_float64,
    whole,
)
from tests.distributed.harness import run_ranks
from tests.engines import loss_of_text
from train.checkpoint.stored_state import read_masters
from train.config.decay import METHODS
from train.engines.build import build_engine, plan_engine
from train.errors import UserError
from train.models.build import model_on_meta
from train.planning.spread import spread_of


@solving_in_float64()
def both_engines(rank: int, arguments: list[tuple[str, ...]]) -> list[tuple[Trained, ...]]:
    """The same runs under FSDP2 and under DeepSpeed's ZeRO-3."""
    engines = (ENGINES["fsdp2"], ENGINES["zero3"])
    return [
        tuple(Run(config_of(*engine, *own)).take(range(STEPS)) for engine in engines)
        for own in arguments
    ]


def test_every_method_on_two_ranks_is_that_of_deepspeed_and_of_one_process() -> None:
    cases = [method(name) for name in METHODS]
    for (ours, theirs), own in zip(run_ranks(2, both_engines, cases)[0], cases, strict=True):
        assert_same(ours, alone(config_of(*own)))
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-6), own
        assert ours.decays == pytest.approx(theirs.decays, abs=1e-6), own


CASES = {
    "adam": ("--optim.name=adam", "--optim.weight_decay=1e-3"),
    "recomputed": ("--model.activation_checkpointing=true",),
    "kept": ("--engine.reshard_after_forward=false",),
    "tied": ("--model.tie_embeddings=true",),
    "spread": ("--decay.spread=1",),
    "chunked loss": ("--model.fused_cross_entropy=chunked",),
}


@pytest.mark.parametrize("ranks", [1, 3])
def test_every_way_to_compute(ranks: int) -> None:
    for found, own in zip(
        run_ranks(ranks, sharded, list(CASES.values()))[0], CASES.values(), strict=True
    ):
        assert_same(found, alone(config_of(*own)))


def test_compiled_layers() -> None:
    own = ("--model.compile=true", "--model.fused_cross_entropy=chunked")
    assert_same(run_ranks(2, sharded, [own])[0][0], alone(config_of()))


def test_two_copies_of_two_shards_and_a_copy_on_every_rank() -> None:
    cases = [("--engine.shard=2",), ("--engine.shard=1",), ()]
    for found in run_ranks(4, sharded, cases)[0]:
        assert_same(found, alone(config_of()))


@solving_in_float64()
def leg(rank: int, source: str, target: str, steps: tuple[int, int]) -> Trained:
    run = Run(config_of("--engine.kind=fsdp2"))
    if source:
        run.load(Path(source))
    found = run.take(range(*steps))
    if run.ranks == 4:
        run.save(Path(target))
    else:
        run.save_later(Path(target))
    return found


def test_a_checkpoint_goes_on_at_any_number_of_ranks_and_is_read_by_one(tmp_path: Path) -> None:
    losses: list[float] = []
    source = ""
    found = None
    for number, ranks in enumerate((2, 4, 1)):
        target = str(tmp_path / str(number))
        found = run_ranks(ranks, leg, source, target, (2 * number, 2 * number + 2))[0]
        losses += found.losses
        source = target
    assert found is not None
    expected = alone(config_of())
    assert_same(Trained(losses, found.decays, found.norm, found.weights), expected)
    stored = read_masters(Path(source))
    assert stored.keys() == found.weights.keys()
    assert all(torch.equal(stored[name], weight) for name, weight in found.weights.items())


def held(rank: int, optimizer: str) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of this rank's weights and moments after a step, and what a dry run says of them."""
    config = config_of("--engine.kind=fsdp2", f"--optim.name={optimizer}")
    run = Run(config)
    run.take(range(1))
    engine = run.engine
    assert engine.optimizer is not None
    moments = [
        moment
        for state in engine.optimizer.state.values()
        for key, moment in state.items()
        if key != "step"
    ]
    found = {"weights": nbytes(engine.module.parameters()), "optimizer": nbytes(moments)}
    plan = plan_engine(config, ROWS // run.ranks, run.ranks)
    model = model_on_meta(config.model, LENGTH)
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    said = predict_memory(shapes, spread_of(config, plan, model, run.ranks))
    return found, {key: getattr(said, key) for key in found}


def nbytes(shards: Iterable[Any]) -> int:
    return sum(shard.to_local().nbytes for shard in shards)


@pytest.mark.parametrize("optimizer", ["adamw", "sgdw"])
def test_the_first_rank_holds_what_the_dry_run_says(optimizer: str) -> None:
    found, said = run_ranks(3, held, optimizer)[0]
    assert found == said


def poisoned(rank: int) -> list[bool]:
    """Whether each of three steps was applied; in the second one rank has a NaN."""
    run = Run(config_of("--engine.kind=fsdp2"))
    applied = []
    for step in range(3):
        for row in rows_of(step).chunk(run.ranks)[rank]:
            loss = loss_of_text(run.engine, row[None])
            bad = step == 1 and rank == 1
            run.engine.backward(loss * float("nan") if bad else loss)
            run.engine.step()
        applied.append(run.engine.step_was_applied())
    assert all(
        bool(weight.isfinite().all()) for weight in map(whole, run.engine.module.parameters())
    )
    return applied


def test_a_step_that_is_not_finite_on_one_rank_is_skipped_by_all() -> None:
    assert run_ranks(2, poisoned) == [[True, False, True]] * 2


def reductions(rank: int, shard: int) -> list[dict[str, int]]:
    """What sums gradients over the ranks, by micro batch, in two steps of three micro batches."""
    config = config_of("--engine.kind=fsdp2", f"--engine.shard={shard}")
    ranks = torch.distributed.get_world_size()
    engine = build_engine(config, plan_engine(config, 3, ranks), CPU)
    counts = []
    for micro_batch in range(6):
        loss = loss_of_text(engine, rows_of(micro_batch)[rank : rank + 1])
        with CountCollectives() as collectives:
            engine.backward(loss)
        kinds = ("_reduce_scatter_base_", "allreduce_")
        counts.append({kind: collectives.calls[kind] for kind in kinds})
        assert collectives.calls["_allgather_base_"]  # they are counted in a backward pass at all
        engine.step()
    return counts


@pytest.mark.parametrize(("ranks", "shard"), [(2, 2), (4, 2)])
def test_gradients_are_summed_once_a_step(ranks: int, shard: int) -> None:
    units = 2 + 3  # decoder layers; embedding, head, and the norm between
    none = {"_reduce_scatter_base_": 0, "allreduce_": 0}
    last = {"_reduce_scatter_base_": units, "allreduce_": units if ranks > shard else 0}
    assert run_ranks(ranks, reductions, shard) == [[none, none, last] * 2] * ranks


def test_shards_that_do_not_divide_the_ranks_are_refused() -> None:
    with pytest.raises(UserError, match=r"engine.shard is 3, .* set one of 1, 2, 4, or 0"):
        plan_engine(config_of("--engine.kind=fsdp2", "--engine.shard=3"), 1, 4)
    with pytest.raises(UserError, match=r"engine.cpu_offload needs a CUDA GPU"):
        plan_engine(config_of("--engine.kind=fsdp2", "--engine.cpu_offload=true"), 1, 4)
