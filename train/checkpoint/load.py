"""Brings a checkpoint into the engine. Only what `find` has verified comes here."""

from __future__ import annotations

from pickle import UnpicklingError
from typing import Any

from train.checkpoint.manifest import RANK_STATE, STATE, Checkpoint
from train.checkpoint.safe_load import restricted, safe_load
from train.engines.protocol import Engine
from train.errors import UserError


def load(engine: Engine, checkpoint: Checkpoint) -> dict[str, Any]:
    """Load weights, moments and client state into the engine.

    Collective. The manifest's hashes have been checked. No code runs that a file asks for.

    Raises:
        UserError: there is nothing to load, or a file holds more than plain state.
    """
    try:
        with restricted():
            return engine.read_state(checkpoint.path / STATE)
    except UnpicklingError as error:
        raise UserError(
            f"{checkpoint.path} holds more than the state of a run and is not loaded: "
            f"{str(error).partition(chr(10))[0][:200]}"
        ) from error


def load_rank_state(checkpoint: Checkpoint, rank: int) -> dict[str, Any] | None:
    """Return what this rank saved for itself.

    None where there were fewer ranks.
    """
    path = checkpoint.path / STATE / RANK_STATE.format(rank)
    return dict(safe_load(path)) if path.is_file() else None
