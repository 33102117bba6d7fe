"""Brings a checkpoint into the engine. Only what `find` has verified comes here."""

from __future__ import annotations

from typing import Any

import torch

from train.checkpoint.manifest import RANK_STATE, STATE, Checkpoint
from train.engines.protocol import Engine


def load(engine: Engine, checkpoint: Checkpoint) -> dict[str, Any]:
    """Load weights, moments and client state into the engine.

    Collective. The manifest's hashes have been checked.

    Raises:
        UserError: there is nothing to load.
    """
    return engine.read_state(checkpoint.path / STATE)


def load_rank_state(checkpoint: Checkpoint, rank: int) -> dict[str, Any] | None:
    """Return what this rank saved for itself.

    None where there were fewer ranks, or where another layout was converted.
    """
    path = checkpoint.path / STATE / RANK_STATE.format(rank)
    return dict(torch.load(path, weights_only=True)) if path.is_file() else None
