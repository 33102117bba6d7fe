"""Tells what a run's checkpoints take on disk, and which one it would go on from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import torch

from train import checkpoint
from train.checkpoint.space import bytes_needed
from train.config import TrainConfig
from train.config.run_folder import CHECKPOINTS
from train.engines.build import EnginePlan
from train.errors import Problems
from train.tasks.task import DataPlan

GB = 1e9


def checkpoint_lines(
    c: TrainConfig,
    model: torch.nn.Module,
    plan: EnginePlan | None,
    world_size: int,
    problems: Problems,
) -> Iterator[str]:
    """Yield the size of the checkpoints; note a folder that cannot take them."""
    elements = sum(parameter.numel() for parameter in model.parameters())
    itemsize, masters = (plan.itemsize, plan.keeps_masters) if plan else (4, False)
    size = bytes_needed(elements, itemsize, masters, world_size, c.optim.ema > 0)
    written = max(1, c.run.steps // max(1, c.checkpoint.every or c.run.steps))
    total = ((c.checkpoint.keep or written) + 1) * size
    yield (
        f"Checkpoints in {c.folder}: {size / GB:,.2f} GB each, up to {total / GB:,.2f} GB at once"
    )
    nearest = next(path for path in (c.folder, *c.folder.absolute().parents) if path.exists())
    if not os.access(nearest, os.W_OK) or not nearest.is_dir():
        problems.add(f"output_dir: {nearest} cannot be written; choose another --output_dir")
    free = shutil.disk_usage(nearest).free
    if free < total:
        problems.add(
            f"output_dir: {nearest} has {free / GB:,.1f} GB free, checkpoints take up to "
            f"{total / GB:,.1f} GB; choose another --output_dir or a smaller --checkpoint.keep"
        )


def start_line(
    c: TrainConfig,
    plan: EnginePlan | None,
    world_size: int,
    data: DataPlan,
    problems: Problems,
) -> str:
    """Return where the run would start; note a checkpoint that it could not go on from."""
    resume = checkpoint.how_to_resume(c, lambda _: None)
    found = problems.attempt(lambda: checkpoint.peek(resume, c.folder / CHECKPOINTS))
    if found is None:
        return "starts from step 0"
    if plan is not None and data.identity:
        identity = checkpoint.identity(c, world_size, plan.layout, data.identity)
        if data.is_same(found.manifest.get("data")):
            identity["data"] = found.manifest["data"]
        problems.attempt(lambda: checkpoint.check_identity(found, identity, c.checkpoint.convert))
    return f"goes on from {found.path}, step {found.step} of {c.run.steps}"
