"""What the pre-training program leaves in a run's folder: its names, and its newest checkpoint.

It imports no torch, so that what looks at a run alone is quick.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# in a run's folder
ATTEMPTS = "attempts.jsonl"
CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
REPORT = "report.html"
STATUS = "state.json"
SUMMARY = "summary.json"
# in a checkpoint's
MANIFEST = "manifest.json"
STATE = "state"  # what the engine wrote
_STEP = re.compile(r"step-(\d{8,})")


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
            for path in step_folders(parent)
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


def newest_first(checkpoints: Iterable[Path]) -> list[Path]:
    """Order checkpoints by the number of their commit, the newest first.

    Those without a readable manifest come first: they were being written when the run died.
    """

    def rank(path: Path) -> tuple[bool, int, str]:
        number = commit_number(path)
        return (number is None, number or 0, path.name)

    return sorted(checkpoints, key=rank, reverse=True)


def step_of(path: Path) -> int | None:
    """Return the step of a checkpoint's folder by its name; None where it is no such name.

    A copy by hand, step-00000100.keep or step-00000100.tar, has none.
    """
    match = _STEP.fullmatch(path.name)
    return int(match[1]) if match else None


def step_folders(folder: Path) -> list[Path]:
    """Return the folders below `folder` that have the name of a step's checkpoint.

    A link is somebody's own. What cannot be looked at may be one.

    Raises:
        OSError: `folder` is there and cannot be read.
    """
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    paths = [folder / name for name in names]
    return [path for path in paths if step_of(path) is not None and _may_be_folder(path)]


def _may_be_folder(path: Path) -> bool:
    try:
        return path.is_dir() and not path.is_symlink()
    except OSError:
        return True


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; an empty one where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
