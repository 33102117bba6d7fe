"""Tells what a run's checkpoints take on disk, and which one it would go on from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from train import checkpoint
from train.checkpoint.space import bytes_needed
from train.config import TrainConfig
from train.config.run_folder import CHECKPOINTS
from train.data.loading.dataset import data_identity, same_data
from train.data.preparing.corpora import PreparedCorpus
from train.engines.ds_config import computes_in_bf16, zero_stage
from train.errors import Problems

GB = 1e9


def checkpoint_lines(
    c: TrainConfig,
    model: torch.nn.Module,
    ds_config: Mapping[str, Any],
    world_size: int,
    problems: Problems,
) -> Iterator[str]:
    """Yield the size of the checkpoints; note a folder that cannot take them."""
    size = _checkpoint_bytes(model, ds_config, world_size)
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
    ds_config: Mapping[str, Any],
    world_size: int,
    prepared: Sequence[PreparedCorpus],
    problems: Problems,
) -> str:
    """Return where the run would start; note a checkpoint that it could not go on from."""
    resume = checkpoint.how_to_resume(c, lambda _: None)
    found = checkpoint.peek(resume, c.folder / CHECKPOINTS)
    if found is None:
        return "starts from step 0"
    folders = [corpus.folder for corpus in prepared if corpus.ready and corpus.folder]
    if prepared and len(folders) == len(prepared):
        identity = _identity(c, ds_config, world_size, folders)
        if same_data(found.manifest.get("data"), folders, c.data):
            identity["data"] = found.manifest["data"]
        problems.attempt(lambda: checkpoint.check_identity(found, identity, c.checkpoint.convert))
    return f"goes on from {found.path}, step {found.step} of {c.run.steps}"


def _identity(
    c: TrainConfig, ds_config: Mapping[str, Any], world_size: int, folders: list[Path]
) -> Any:
    layout = {"engine": "deepspeed", "zero_stage": zero_stage(ds_config)}
    return checkpoint.identity(c, world_size, layout, data_identity(folders, c.data))


def _checkpoint_bytes(model: torch.nn.Module, ds_config: Mapping[str, Any], ranks: int) -> int:
    bf16 = computes_in_bf16(ds_config)
    elements = sum(parameter.numel() for parameter in model.parameters())
    return bytes_needed(elements, 2 if bf16 else 4, bf16 or zero_stage(ds_config) > 0, ranks)
