"""The program's Trainer on ranks of the test harness: what it consumed can be looked at, and it
starts in seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from tests.distributed.harness import init_deepspeed
from train.cluster.distributed import World
from train.config import TrainConfig
from train.config.command_line import load_config
from train.loop.build import build
from train.loop.hold import output_dir_held
from train.loop.stopping.signals import StopRequests
from train.loop.trainer import Trainer


def make_trainer(rank: int, world_size: int, arguments: Sequence[str]) -> Trainer:
    """What `train/pretrain.py` builds from these arguments, on a process group that is there."""
    config, world = _start(rank, world_size, arguments)
    return build(config, world)


@contextmanager
def held_trainer(rank: int, world_size: int, arguments: Sequence[str]) -> Iterator[Trainer]:
    """The same, with output_dir held within, as `train/pretrain.py` holds it."""
    config, world = _start(rank, world_size, arguments)
    requests = StopRequests()
    with output_dir_held(config.folder, world, requests) as lease:
        yield build(config, world, requests, lease)


def _start(rank: int, world_size: int, arguments: Sequence[str]) -> tuple[TrainConfig, World]:
    init_deepspeed()
    world = World(rank, rank, world_size, torch.device("cpu"), dist.new_group(backend="gloo"))
    return load_config(list(arguments)), world


def train_watched(rank: int, world_size: int, arguments: Sequence[str]) -> dict[str, Any]:
    """Trains to the end; what was consumed and what came of it.

    Returns:
        first: steps done before. batches: step -> hash of the global batch's tokens. losses: step
            -> loss. decays: the last.
    """
    trainer = make_trainer(rank, world_size, arguments)
    first = trainer.step
    batches = {}
    losses = {}
    share = trainer.supply.batch
    log = trainer.telemetry.train

    def watched_share(k: int) -> Any:
        mine = share(k)
        everyone = trainer.world.gather([part.inputs["input_ids"] for part in mine])
        # accumulation-major, then by rank
        rows = [tensor for step in zip(*everyone, strict=True) for tensor in step]
        batches[k + 1] = hashlib.sha256(torch.cat(rows).numpy().tobytes()).hexdigest()
        return mine

    def watched_log(step: int, values: Any) -> None:
        losses[step] = values["loss"]
        log(step, values)

    trainer.supply.batch = watched_share  # type: ignore[method-assign]
    trainer.telemetry.train = watched_log  # type: ignore[method-assign, assignment]
    trainer.train()
    trainer.telemetry.close()
    decays = trainer.decay.weight_decays if trainer.decay is not None else {}
    return {"first": first, "batches": batches, "losses": losses, "decays": decays}
