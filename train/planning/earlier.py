"""Finds which sizes a run had before it was interrupted, in what it left in its folder."""

from __future__ import annotations

from train import checkpoint
from train.config import TrainConfig
from train.config.command_line import load_config
from train.config.run_folder import CHECKPOINTS, CONFIG
from train.errors import UserError
from train.planning.sizes import Size, leaves_open


def earlier_size(c: TrainConfig) -> Size | None:
    """Return the sizes of the run that this one goes on from.

    None where it starts from the beginning, or where that run's configuration cannot be read.
    """
    try:
        resume = checkpoint.how_to_resume(c, lambda _: None)
        saved = checkpoint.peek(resume, c.folder / CHECKPOINTS)
        if saved is None:
            return None
        earlier = load_config(["--config", str(saved.path.parents[1] / CONFIG)])
    except UserError:
        return None
    if leaves_open(earlier):
        return None
    return Size(earlier.deepspeed.config, earlier.run.micro_rows)
