"""What the pre-training program leaves in a run's folder: its names, and its newest checkpoint.

It imports no torch, so that what looks at a run alone is quick.
"""

from __future__ import annotations

import json
from pathlib import Path

CHECKPOINTS = "checkpoints"  # in a run's folder
MANIFEST = "manifest.json"
STATE = "state"  # what the engine wrote
_STEPS = "step-*"


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder is a checkpoint of the program."""
    return (folder / MANIFEST).is_file() and (folder / STATE).is_dir()


def newest_of_run(folder: Path) -> Path | None:
    """Return the newest checkpoint of a run's folder, or of its folder of checkpoints; None where
    there is none.
    """
    for parent in (folder / CHECKPOINTS, folder):
        numbered = [
            (number, path)
            for path in parent.glob(_STEPS)
            if is_checkpoint(path) and (number := commit_number(path)) is not None
        ]
        if numbered:
            return max(numbered)[1]
    return None


def commit_number(path: Path) -> int | None:
    """Return the number of a checkpoint's commit, which grows by one with each; None where none is
    noted.

    It is not the step: after going back to an earlier step, the newest is not the one of the
    highest.
    """
    try:
        return int(json.loads((path / MANIFEST).read_text(encoding="utf-8"))["commit"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
