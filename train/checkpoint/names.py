"""The names of the folders that checkpoints have, and which folders bear them."""

from __future__ import annotations

import os
import re
from pathlib import Path

TEMPORARY = ".tmp-"
OLD = ".old-"
_STEP = re.compile(r"step-(\d{8,})")


def step_name(step: int) -> str:
    """Return the name of the checkpoint of a step: step-00000100."""
    return f"step-{step:08d}"


def universal_name(step: int) -> str:
    """Return the name of the universal form of that checkpoint: universal-00000100."""
    return f"universal-{step:08d}"


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
