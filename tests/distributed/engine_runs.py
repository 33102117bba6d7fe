"""The program's engines and decay methods on ranks, and beside them one process with torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from alphadecay.refresh import SpectralRefresh
from alphadecay.spectral import Estimate
from tests.distributed.harness import init_deepspeed
from tests.engines import PlainEngine
from train.checkpoint.writer import Writer
from train.config import TrainConfig
from train.config.command_line import load_config
from train.engines.build import build_engine, engine_kind, plan_engine
from train.engines.optimizer import build_optimizer, set_momentum
from train.loop.decay_methods import build_decay
from train.loop.schedules import base_decay, learning_rate, momentum
from train.models.build import build_model
from train.system.shared_memory import Arena

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
    "--optim.eps=1e-3",  # without it a gradient near 0 turns rounding into a whole step
    "--optim.grad_clip=0.5",
    "--optim.warmup_steps=0",
    "--optim.min_lr_ratio=1",  # a constant rate, where a case does not say otherwise
    f"--run.steps={STEPS}",
    "--decay.interval=2",
)
ENGINES = {
    "fsdp2": ("--engine.kind=fsdp2",),
    **{f"zero{n}": (f"--deepspeed.config=ds_configs/zero{n}.json",) for n in range(4)},
}
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
    """The common settings, but for what the arguments say otherwise."""
    own = {argument.partition("=")[0] for argument in arguments}
    common = [each for each in ARGUMENTS if each.partition("=")[0] not in own]
    return load_config([*common, *arguments])


def method(name: str) -> tuple[str, ...]:
    return (f"--decay.method={name}", *([RATIOS] if name == "fixed_ratio" else []))


def rows_of(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randint(0, VOCABULARY, (ROWS, LENGTH), generator=generator)


def inputs_of(config: TrainConfig, step: int) -> dict[str, Tensor]:
    """The rows of a step as the architecture takes them, with labels of which it makes its loss."""
    model = config.model
    if config.task not in ("image_classification", "text_classification"):
        return {"input_ids": rows_of(step), "labels": rows_of(step)}
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(0, model.num_labels, (ROWS,), generator=generator)
    if config.task == "text_classification":
        return {"input_ids": rows_of(step), "labels": labels}
    shape = (ROWS, 3, model.image_size, model.image_size)
    return {"pixel_values": torch.randn(shape, generator=generator), "labels": labels}


@contextmanager
def solving_in_float64() -> Iterator[None]:
    """Solve spectra in float64: what is left of a decay's distance comes from the weights.

    In float32 the solver's own rounding is several times that of the weights.
    """

    def measure(self: SpectralRefresh) -> dict[str, Estimate]:
        return self._measure(list(self.modules), self.plan, torch.float64)

    with patch.object(SpectralRefresh, "measure", measure):
        yield


@solving_in_float64()
def alone(config: TrainConfig, device: torch.device = CPU) -> Trained:
    """The oracle: one process, torch's own clipping, the whole batch at once."""
    seed = config.run.seed_of_init
    model = build_model(config.model, config.positions, seed, z_loss=config.loss.z_loss).to(device)
    optimizer = build_optimizer(config, model.parameters())
    decay = build_decay(config, PlainEngine(model, optimizer))
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config.optim, step + 1, STEPS)
            group["weight_decay"] = base_decay(config, step + 1)
        set_momentum(optimizer, momentum(config.optim, step + 1, STEPS))
        loss = model(**on(device, inputs_of(config, step))).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        if decay is not None:
            decay.step()
        losses.append(float(loss.detach()))
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    return Trained(losses, dict(decay.weight_decays) if decay else {}, float(norm), weights)


def on(device: torch.device, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: values.to(device) for name, values in inputs.items()}


@solving_in_float64()
def sharded(
    rank: int, arguments: list[tuple[str, ...]], engines: tuple[str, ...] = ("fsdp2",)
) -> list[Trained]:
    """One run for each engine and, inside it, for each list of arguments."""
    return [
        Run(config_of(*ENGINES[engine], *own)).take(range(STEPS))
        for engine in engines
        for own in arguments
    ]


class Run:
    """One engine and its decay, as the program builds them."""

    def __init__(self, config: TrainConfig, device: torch.device = CPU) -> None:
        self.ranks = dist.get_world_size()
        self.config = config
        self.device = device
        if engine_kind(config) == "deepspeed" and device == CPU:
            init_deepspeed()
        accumulation = ROWS // self.ranks
        plan = plan_engine(config, accumulation, self.ranks)
        self.engine = build_engine(config, plan, device)
        self.decay = build_decay(config, self.engine)
        self.losses: list[float] = []

    def take(self, steps: range) -> Trained:
        for step in steps:
            losses = []
            self.engine.set_learning_rate(learning_rate(self.config.optim, step + 1, STEPS))
            self.engine.set_weight_decay(base_decay(self.config, step + 1))
            self.engine.set_momentum(momentum(self.config.optim, step + 1, STEPS))
            inputs = on(self.device, inputs_of(self.config, step))
            for row in torch.arange(ROWS).chunk(self.ranks)[dist.get_rank()]:
                one = {name: values[row : row + 1] for name, values in inputs.items()}
                loss = self.engine.forward(one).loss
                self.engine.backward(loss)
                self.engine.step()
                losses.append(loss.detach())
            if self.decay is not None:
                self.decay.step()
            mean = torch.stack(losses).mean()
            dist.all_reduce(mean)
            self.losses.append(float(mean) / self.ranks)
        weights = whole_weights(self.engine.module)
        decays = dict(self.decay.weight_decays) if self.decay else {}
        return Trained(self.losses, decays, self.engine.gradient_norm(), weights)

    def save(self, folder: Path) -> None:
        state = {} if self.decay is None else {"alphadecay": self.decay.state_dict()}
        written = self.engine.write_state(folder, state)
        assert written.failure is None
        assert all(path.is_file() for path in written.paths)
        dist.barrier()

    @torch.no_grad()
    def save_later(self, folder: Path) -> None:
        """Save once the training has gone on, by a process beside this rank."""
        state = {} if self.decay is None else {"alphadecay": self.decay.state_dict()}
        snapshot = self.engine.snapshot_state(folder, state)
        writer = Writer(Arena(CPU))
        written = writer.write(snapshot, folder)
        shards = [weight.to_local() for weight in self.engine.module.parameters()]
        kept = [shard.clone() for shard in shards]
        for shard in shards:
            shard.zero_()
        report = written.result()
        assert report.failure is None
        for shard, own in zip(shards, kept, strict=True):
            shard.copy_(own)
        every: list[Any] = [None] * self.ranks
        dist.all_gather_object(every, report.places)
        places = {folder / name: lie for own in every for name, lie in own.items()}
        if dist.get_rank() == 0:
            assert snapshot.closing is not None and snapshot.closing(places).is_file()
        writer.close()
        dist.barrier()

    def load(self, folder: Path) -> None:
        state = self.engine.read_state(folder)
        if self.decay is not None:
            self.decay.load_state_dict(state["alphadecay"])


def whole_weights(module: nn.Module) -> dict[str, Tensor]:
    """Every weight whole, on every rank. Collective where they are sharded."""
    return {name: whole(weight) for name, weight in module.named_parameters()}


def whole(weight: Any) -> Tensor:
    """A weight of FSDP2, of ZeRO or of one process, whole."""
    import deepspeed

    if hasattr(weight, "full_tensor"):
        full: Tensor = weight.full_tensor()
        return full.detach()
    with deepspeed.zero.GatheredParameters([weight]):
        return weight.detach().clone()


def assert_same(found: Trained, expected: Trained) -> None:
    torch.testing.assert_close(found.losses, expected.losses, rtol=0, atol=2e-6)  # 4 ulp
    assert found.norm == pytest.approx(expected.norm, rel=1e-5)
    assert found.decays == pytest.approx(expected.decays, abs=1e-6)
    assert_weights(found.weights, expected.weights)


def assert_weights(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=2e-6, msg=name)
