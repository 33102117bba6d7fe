"""Tells which rank computes which spectrum, and how long a refresh takes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from alphadecay.modules import find_modules
from alphadecay.owners import module_cost, plan_owners
from alphadecay.spectral import ESTIMATORS
from train.config import TrainConfig


def refresh_lines(c: TrainConfig, model: torch.nn.Module, world_size: int) -> Iterator[str]:
    """Yield the owners' plan, and what a refresh costs on this machine.

    The costliest matrix is timed; the rest is in proportion.
    """
    modules = find_modules(model, published=c.decay.compat == "published")
    shapes = {module.name: module.shape for module in modules}
    plan = plan_owners(shapes, world_size)
    yield plan.describe()
    shape = max(shapes.values(), key=module_cost)
    weight_MN = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    started = time.perf_counter()
    ESTIMATORS[c.decay.estimator](weight_MN)
    seconds = (time.perf_counter() - started) * max(plan.loads) / module_cost(shape)
    refreshes = c.run.steps // c.decay.interval + 1
    yield (
        f"  a refresh takes about {seconds:,.2f} s on CPUs like this one ({shape[0]}x{shape[1]} "
        f"timed), a GPU less; {refreshes:,} of them"
    )
    if c.decay.drives != "decay":
        yield _about_rates(c)


def _about_rates(c: TrainConfig) -> str:
    """Say what becomes of the learning rate."""
    decay = c.decay
    span = f"{decay.lr_s1:g} to {decay.lr_s2:g} times"
    if decay.assign != "linear":
        span = "multiples, one in the mean, of"
    until = "" if decay.lr_until == 1 else f", until step {round(decay.lr_until * c.run.steps):,}"
    return (
        f"  learning rates by module: {span} optim.lr {c.optim.lr:g}, embeddings and head "
        f"{decay.lr_ends:g} times, each reached over {decay.lr_ramp} steps{until}"
    )
