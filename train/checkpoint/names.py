"""The names of the folders that checkpoints have, and which folders bear them."""

from __future__ import annotations

from alphadecay.inspect.run_folder import step_folders as step_folders
from alphadecay.inspect.run_folder import step_of as step_of

TEMPORARY = ".tmp-"
OLD = ".old-"
DECAY = "alphadecay"  # the decay's own, in what the training loop keeps


def step_name(step: int) -> str:
    """Return the name of the checkpoint of a step: step-00000100."""
    return f"step-{step:08d}"


def universal_name(step: int) -> str:
    """Return the name of the universal form of that checkpoint: universal-00000100."""
    return f"universal-{step:08d}"
