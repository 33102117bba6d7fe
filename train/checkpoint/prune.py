"""Removes checkpoints that a run no longer needs, and nothing that the program did not write."""

from __future__ import annotations

import shutil
from pathlib import Path

from train.checkpoint.beginning import Beginning, begun_by
from train.checkpoint.manifest import MANIFEST, commit_number
from train.checkpoint.names import OLD, TEMPORARY, step_folders, step_of


def prune(
    folder: Path,
    keep: int,
    keep_every: int = 0,
    consumed: Path | None = None,
    beginning: Beginning | None = None,
) -> None:
    """Remove all but the `keep` checkpoints written last, and what a killed save left behind.

    The order is that of writing, not of steps: after going back to an earlier step, a damaged or
    abandoned later one must not push the new ones out. Complete ones whose step is a multiple of
    `keep_every` stay, and those that cannot be read at the moment.

    Args:
        consumed: the universal checkpoint that this run went on from; it has served.
        beginning: what the run was begun from: its own checkpoints are kept first, then the one
            that it was begun from, then those that it left.

    Raises:
        OSError: something cannot be removed.
    """
    clear_temporary(folder)
    if consumed is not None and consumed.parent.resolve() == folder.resolve():
        _remove(consumed)
    if not keep:
        return

    def rank(path: Path) -> tuple[bool, bool, int, str]:
        own = beginning is not None and begun_by(path) == beginning.name
        origin = beginning is not None and beginning.is_from(path)
        return (own, origin, commit_number(path) or 0, path.name)

    known = [path for path in step_folders(folder) if not _is_unreadable(path)]
    for path in sorted(known, key=rank, reverse=True)[keep:]:
        complete = commit_number(path) is not None
        if not (keep_every and (step_of(path) or 0) % keep_every == 0 and complete):
            _remove(path)


def _is_unreadable(path: Path) -> bool:
    """Return whether the file system does not give a manifest now: it may be the best there is."""
    try:
        (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def clear_temporary(folder: Path) -> None:
    """Remove what a killed save left; a conversion at work is not this run's."""
    for pattern in (f"{TEMPORARY}step-*", f"{OLD}step-*"):
        for stale in folder.glob(pattern):
            shutil.rmtree(stale, ignore_errors=True)


def _remove(path: Path) -> None:
    # The manifest goes first, so that a kill half-way leaves nothing that looks whole.
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
