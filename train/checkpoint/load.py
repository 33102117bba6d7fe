"""Brings a checkpoint into the engine.

DeepSpeed unpickles in full: only what `find` has verified comes here.
"""

from __future__ import annotations

from typing import Any

import torch

from train.checkpoint.manifest import OWN, STATE, Checkpoint
from train.errors import UserError


def load(engine: Any, checkpoint: Checkpoint) -> dict[str, Any]:
    """Loads weights, moments and client state into the engine.

    Collective. The manifest's hashes have been checked.

    Raises:
        UserError: there is nothing to load.
    """
    clip = getattr(engine.optimizer, "clip_grad", None)
    path, client_state = engine.load_checkpoint(str(checkpoint.path), tag=STATE)
    if path is None:
        raise UserError(f"DeepSpeed found nothing to load in {checkpoint.path}")
    if clip is not None:
        engine.optimizer.clip_grad = clip  # stages 1 and 2 take the saved one; the recipe owns it
    return dict(client_state)


def load_own(checkpoint: Checkpoint, rank: int) -> dict[str, Any] | None:
    """What this rank saved for itself; None where there were fewer ranks, or another layout was
    converted.
    """
    path = checkpoint.path / STATE / OWN.format(rank)
    return dict(torch.load(path, weights_only=True)) if path.is_file() else None
