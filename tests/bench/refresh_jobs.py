"""Runs the jobs that tests/bench/refresh.py compares, on one rank."""

from __future__ import annotations

import time
import warnings
from typing import Any

import torch
import torch.distributed as dist

from alphadecay import AdamW, AlphaDecay
from alphadecay.spectral import FIELDS, estimate
from tests.bench.counting import Job, allocator_peak, resident_peak, traffic
from tests.bench.step import LR, WEIGHT_DECAY, ds_config
from tests.distributed.harness import init_deepspeed
from train.config import ModelConfig
from train.models.build import build_model

# The embedding and the head are no modules; a small vocabulary leaves the matrices that are.
SIZES = {
    "toy": ModelConfig(
        vocab_size=64, hidden_size=64, intermediate_size=172, num_layers=2, num_heads=4
    ),
    "130m": ModelConfig(
        vocab_size=64, hidden_size=768, intermediate_size=2048, num_layers=12, num_heads=12
    ),
}


def whole(parameter: Any) -> torch.Tensor:
    """Return a partitioned weight, whole on every rank. Collective."""
    local = parameter.ds_tensor.detach()
    buffer = torch.empty(local.numel() * dist.get_world_size(), dtype=local.dtype)
    dist.all_gather_into_tensor(buffer, local)
    return buffer[: parameter.ds_numel].view(parameter.ds_shape)


def hill(weight: torch.Tensor) -> float:
    """Return PL_Alpha_Hill by singular values in float32, the larger half as tail."""
    eigenvalues = torch.linalg.svdvals(weight.float()).square().flip(0)
    count = len(eigenvalues)
    tail = count // 2
    logs = torch.log(eigenvalues[count - tail :] / eigenvalues[count - tail - 1])
    return float(1 + tail / logs.sum())


def published(decay: AlphaDecay) -> dict[str, float]:
    """Estimate every weight on every rank, as the published code does. Collective."""
    return {name: hill(whole(module.parameter)) for name, module in decay._modules.items()}


def gather_with_owners(decay: AlphaDecay, rank: int) -> None:
    """Gather every weight on every rank, and estimate it on its owner. Collective.

    It goes round by round, so that the owners decompose at the same time.
    """
    rows = {name: torch.zeros(len(FIELDS), dtype=torch.float64) for name in decay._modules}
    for row in decay.plan.rounds:
        owned = None
        for owner, name in enumerate(row):
            if name is not None:
                weight = whole(decay._modules[name].parameter)
                owned = weight if owner == rank else owned
                del weight
        if owned is not None:
            rows[str(row[rank])] = estimate(owned).pack()
    decay._sharding.share(torch.stack(list(rows.values())))
    decay._sharding.agree(list(decay.weight_decays.values()), "decays")


def moving_only(decay: AlphaDecay) -> None:
    """Send what a refresh sends. Collective."""
    rounds = [
        [None if name is None else decay._modules[name] for name in row]
        for row in decay.plan.rounds
    ]
    for _ in decay._sharding.deliver(rounds):
        pass


def clock(job: Job) -> tuple[float, float]:
    """Return wall and CPU seconds of a job on this rank. Collective where the job is."""
    dist.barrier()
    cpu = time.process_time()
    start = time.perf_counter()
    job()
    return time.perf_counter() - start, time.process_time() - cpu


def build(size: str, dtype: str) -> AlphaDecay:
    """Build an engine under ZeRO-3 with AlphaDecay. Collective."""
    import deepspeed

    init_deepspeed()
    config = ds_config(3, 1, dtype)
    model = build_model(SIZES[size], 8, seed=7, ds_config=config)
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return AlphaDecay(engine, interval=10**9)


@torch.no_grad()
def bench_rank(rank: int, size: str, dtype: str, repeats: int) -> dict[str, Any]:
    warnings.filterwarnings("ignore")
    decay = build(size, dtype)
    jobs: dict[str, Job] = {
        "alphadecay": decay.refresh,
        "published": lambda: published(decay),
        "gather_with_owners": lambda: gather_with_owners(decay, rank),
        "moving_only": lambda: moving_only(decay),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    theirs = published(decay)
    for name in ("gather_with_owners", "moving_only"):
        jobs[name]()  # the other two have run
    for repeat in range(repeats):
        for name in list(jobs)[:: -1 if repeat % 2 else 1]:
            times[name].append(clock(jobs[name]))
    return {
        "times": times,
        "traffic": {name: traffic(job, rank) for name, job in jobs.items()},
        "allocator": {name: allocator_peak(job) for name, job in jobs.items()},
        "resident": {name: resident_peak(job) for name, job in jobs.items()},
        "shapes": {name: module.shape for name, module in decay._modules.items()},
        "alpha_difference": max(
            abs(decay.alphas[name] / alpha - 1) for name, alpha in theirs.items()
        ),
    }
