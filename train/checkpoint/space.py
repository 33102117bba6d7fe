"""Estimates the room that a checkpoint needs, and says what to do where there is not enough."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from train.errors import UserError

_PER_FILE = 1 << 20  # what DeepSpeed and the zip format add, at most


class NotSaved(UserError):
    """A checkpoint could not be written.

    Raised on every rank; nothing is left of it, and older ones are as they were.
    """


def bytes_needed(
    elements: int, itemsize: int, masters: bool, ranks: int, averages: bool = False
) -> int:
    """Return the bytes of one checkpoint, rather too many than too few.

    Args:
        elements: of all parameters.
        itemsize: bytes of a weight as it is computed with.
        masters: whether the optimizer keeps float32 weights beside them.
        ranks: files of each kind.
        averages: whether it keeps their average, too.
    """
    float32 = 4
    per_element = itemsize + (2 + masters + averages) * float32
    return elements * per_element + 2 * ranks * _PER_FILE


def shortage(folder: Path, needed: int) -> str:
    """Return what to say where a folder's disk has too little room, empty where it has enough.

    Raises:
        OSError: it cannot be told.
    """
    free = shutil.disk_usage(_existing(folder)).free
    if free >= needed:
        return ""
    return (
        f"it needs about {_size(needed)} and {folder} has {_size(free)} free; make room, or set "
        "--output_dir to another disk"
    )


def describe_failure(error: BaseException, folder: Path) -> str:
    """Describe a failed write in one line; torch's own messages do not say why."""
    if isinstance(error, OSError) and error.errno:
        reason = os.strerror(error.errno)
    else:
        reason = str(error).partition("\n")[0][:200]
    reason = reason or type(error).__name__
    try:
        free = shutil.disk_usage(_existing(folder)).free
    except OSError:  # what failed the write may fail this too
        return f"{reason} ({folder})"
    return f"{reason} ({_size(free)} free in {folder})"


def _existing(folder: Path) -> Path:
    path = folder.absolute()
    while not path.exists():
        path = path.parent
    return path


def _size(count: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1024:.0f} KiB"
