"""Reads the files by which a folder is held: `.NAME-NUMBER`, the highest number has it."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

from train.system.processes import Holder

NAME = "lease"  # of the right to write in an output folder
# Seconds: longer than a network file system may show a reader what it remembers (NFS: 60 s), and
# than an interruption of a few beats.
PATIENCE = 120.0


@dataclass(frozen=True)
class Seen:
    """A lease file as it was read: its number, its bytes and what they say."""

    number: int
    content: bytes
    holder: Holder | None
    released: bool


def lease_path(folder: Path, name: str, number: int) -> Path:
    """Return the file of one number."""
    return folder / f".{name}-{number:08d}"


def lease_files(folder: Path, name: str) -> list[tuple[int, Path]]:
    """Return the files of a name with their numbers, the lowest first.

    Raises:
        OSError: the folder cannot be read.
    """
    pattern = re.compile(rf"\.{re.escape(name)}-(\d{{8}})")
    names = ((pattern.fullmatch(entry.name), entry) for entry in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in names if match)


def newest(folder: Path, name: str) -> Seen | None:
    """Read the lease of the highest number; None where there is none.

    Raises:
        OSError: the folder cannot be read.
    """
    while files := lease_files(folder, name):
        number, path = files[-1]
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            time.sleep(0.01)  # taken over meanwhile
            continue
        return Seen(number, content, *_parse(content))
    return None


def is_held(folder: Path, name: str = NAME) -> bool:
    """Return whether a living process holds a folder, by one look.

    Where its process cannot be looked for from here, the age of its last beat decides. That is a
    hint, for clocks differ: only a lease that is taken is certain.
    """
    try:
        seen = newest(folder, name)
        if seen is None or seen.released:
            return False
        alive = seen.holder.alive_here() if seen.holder is not None else None
        if alive is not None:
            return alive
        beat = lease_path(folder, name, seen.number).stat().st_mtime
        return time.time() - beat < PATIENCE
    except OSError:  # there is no folder, or the file system fails for a moment
        return False


def remove_leases(folder: Path) -> None:
    """Remove the leases of a folder that nobody will write in any more."""
    for _, path in lease_files(folder, NAME):
        path.unlink(missing_ok=True)


def _parse(content: bytes) -> tuple[Holder | None, bool]:
    """Return who a lease names, and whether it was given back; nobody where it says nothing yet."""
    try:
        facts = json.loads(content)
        return Holder.from_facts(facts), str(facts["released"]).strip() == "yes"
    except (ValueError, KeyError, TypeError):
        return None, False
