"""The FSDP2 engine, whatever the ranks, trains as one process does with torch alone: the same
losses and decays under every method; its checkpoints go on at any number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from alphadecay.inspect.plan.memory import predict_memory
from tests.distributed.harness import run_ranks
from tests.engines import PlainEngine
from train.checkpoint.stored_state import read_masters
from train.config import TrainConfig
from train.config.command_line import load_config
from train.config.decay import METHODS
from train.engines.build import build_engine, plan_engine
from train.engines.optimizer import build_optimizer
from train.errors import UserError
from train.loop.decay_methods import build_decay
from train.models.build import build_model, model_on_meta
from train.planning.spread import spread_of

ROWS = 12  # of a step: divisible by 1, 2, 3 and 4 ranks
LENGTH = 16
STEPS = 6
VOCABULARY = 97
ARGUMENTS = (
    f"--model.vocab_size={VOCABULARY}",
    "--model.hidden_size=32",
    "--model.intermediate_size=60",
    "--model.num_layers=2",
    "--model.num_heads=2",
    f"--data.sequence_length={LENGTH}",
    f"--run.global_batch={ROWS}",
    "--run.micro_batch=1",
    "--run.precision=float32",
    "--optim.lr=0.01",
    "--optim.eps=1e-4",  # without it a gradient near 0 turns rounding into a whole step
    "--optim.grad_clip=0.5",
    "--decay.interval=2",
)
RATIOS = '--decay.ratios=[{"modules": "*self_attn*", "ratio": 2.0}, {"modules": "*", "ratio": 0.5}]'
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Trained:
    """What a run leaves: losses by step, decays, gradient norm, weights."""

    losses: list[float]
    decays: dict[str, float]
    norm: float
    weights: dict[str, Tensor]


def config_of(*arguments: str) -> TrainConfig:
    return load_config([*ARGUMENTS, *arguments])


def method(name: str) -> tuple[str, ...]:
    return (f"--decay.method={name}", *([RATIOS] if name == "fixed_ratio" else []))


def rows_of(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randint(0, VOCABULARY, (ROWS, LENGTH), generator=generator)


def alone(config: TrainConfig) -> Trained:
    """The oracle: one process, torch's own clipping, the whole batch at once."""
    model = build_model(config.model, LENGTH, config.run.seed_of_init)
    optimizer = build_optimizer(config, model.parameters())
    decay = build_decay(config, PlainEngine(model, optimizer))
    losses = []
    for step in range(STEPS):
        loss = model(input_ids=rows_of(step), labels=rows_of(step)).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        if decay is not None:
            decay.step()
        losses.append(float(loss.detach()))
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    return Trained(losses, dict(decay.weight_decays) if decay else {}, float(norm), weights)


def sharded(rank: int, arguments: list[tuple[str, ...]], folder: str = "") -> list[Trained]:
    """One run for each list of arguments; their last checkpoints below `folder`."""
    found = []
    for number, own in enumerate(arguments):
        config = config_of("--engine.kind=fsdp2", *own)
        run = Run(config)
        found.append(run.take(range(STEPS)))
        if folder:
            run.save(Path(folder) / str(number))
    return found


class Run:
    """One engine and its decay, as the program builds them."""

    def __init__(self, config: TrainConfig) -> None:
        self.ranks = dist.get_world_size()
        accumulation = ROWS // self.ranks
        plan = plan_engine(config, accumulation, self.ranks)
        self.engine = build_engine(config, plan, CPU)
        self.decay = build_decay(config, self.engine)
        self.losses: list[float] = []

    def take(self, steps: range) -> Trained:
        for step in steps:
            losses = []
            for row in rows_of(step).chunk(self.ranks)[dist.get_rank()]:
                loss = self.engine.forward(row[None], row[None])
                self.engine.backward(loss)
                self.engine.step()
                losses.append(loss.detach())
            if self.decay is not None:
                self.decay.step()
            mean = torch.stack(losses).mean()
            dist.all_reduce(mean)
            self.losses.append(float(mean) / self.ranks)
        weights = {name: whole(weight) for name, weight in self.engine.module.named_parameters()}
        decays = dict(self.decay.weight_decays) if self.decay else {}
        return Trained(self.losses, decays, self.engine.gradient_norm(), weights)

    def save(self, folder: Path) -> None:
        state = {} if self.decay is None else {"alphadecay": self.decay.state_dict()}
        written = self.engine.write_state(folder, state)
        assert written.failure is None
        assert all(path.is_file() for path in written.paths)
        dist.barrier()

    def load(self, folder: Path) -> None:
        state = self.engine.read_state(folder)
        if self.decay is not None:
            self.decay.load_state_dict(state["alphadecay"])


def whole(weight: Any) -> Tensor:
    full: Tensor = weight.full_tensor()
    return full.detach()


def assert_same(found: Trained, expected: Trained) -> None:
    torch.testing.assert_close(found.losses, expected.losses, rtol=0, atol=2e-6)  # 4 ulp
    assert found.norm == pytest.approx(expected.norm, rel=1e-5)
    assert found.decays == pytest.approx(expected.decays, abs=2e-6)
    assert found.weights.keys() == expected.weights.keys()
    for name, weight in expected.weights.items():
        torch.testing.assert_close(found.weights[name], weight, rtol=0, atol=5e-6, msg=name)


def test_every_method_on_two_ranks() -> None:
    cases = [method(name) for name in METHODS]
    for found, own in zip(run_ranks(2, sharded, cases)[0], cases, strict=True):
        assert_same(found, alone(config_of(*own)))


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


def leg(rank: int, source: str, target: str, steps: tuple[int, int]) -> Trained:
    run = Run(config_of("--engine.kind=fsdp2"))
    if source:
        run.load(Path(source))
    found = run.take(range(*steps))
    run.save(Path(target))
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


def held(rank: int) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of this rank's weights and moments after a step, and what a dry run says of them."""
    config = config_of("--engine.kind=fsdp2")
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


def test_the_first_rank_holds_what_the_dry_run_says() -> None:
    found, said = run_ranks(3, held)[0]
    assert found == said


def poisoned(rank: int) -> list[bool]:
    """Whether each of three steps was applied; in the second one rank has a NaN."""
    run = Run(config_of("--engine.kind=fsdp2"))
    applied = []
    for step in range(3):
        for row in rows_of(step).chunk(run.ranks)[rank]:
            loss = run.engine.forward(row[None], row[None])
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


def test_shards_that_do_not_divide_the_ranks_are_refused() -> None:
    with pytest.raises(UserError, match=r"engine.shard is 3, .* set one of 1, 2, 4, or 0"):
        plan_engine(config_of("--engine.kind=fsdp2", "--engine.shard=3"), 1, 4)
    with pytest.raises(UserError, match=r"engine.cpu_offload needs a CUDA GPU"):
        plan_engine(config_of("--engine.kind=fsdp2", "--engine.cpu_offload=true"), 1, 4)
