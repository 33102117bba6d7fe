"""Writes files that survive a kill and a power cut: synced, and replaced in one move."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file in one move, so that a kill leaves the old one or the new one whole.

    Text becomes UTF-8.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync(path.parent)


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file's bytes; other threads run meanwhile."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def follow_umask(folder: Path) -> None:
    """Give every file below a folder the mode that a plain `open` would have given it.

    Some writers make their files readable by their owner alone.
    """
    mask = os.umask(0o077)
    os.umask(mask)  # there is no way to read it without setting it
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~mask)
