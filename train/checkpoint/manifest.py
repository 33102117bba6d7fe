"""Reads and checks the manifest that makes a folder a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphadecay.inspect.run.checkpoints import FORMAT as FORMAT
from alphadecay.inspect.run.checkpoints import PICKLES, why_files_differ
from alphadecay.inspect.run_folder import MANIFEST as MANIFEST
from alphadecay.inspect.run_folder import STATE as STATE
from alphadecay.inspect.run_folder import commit_number as commit_number
from train.checkpoint.byte_progress import ByteProgress
from train.system.cpu_count import cpu_count

RANK_STATE = "own_rank_{:05d}.pt"  # within STATE
LATEST = "latest"
CONTENTS = ".metadata"  # of FSDP2's shards; a pickle, too
CANNOT_BE_READ = "cannot be read"  # in a reason that is the file system's, and may pass
_THREADS = min(8, cpu_count())
_CHUNK = 4 << 20  # bytes read at once

FileFacts = dict[str, dict[str, Any]]  # name -> {"bytes", "sha256"}


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: its folder and what its manifest says."""

    path: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done when it was written."""
        return int(self.manifest["step"])

    @property
    def universal(self) -> bool:
        """True where it fits any world size, ZeRO stage and engine."""
        return bool(self.manifest.get("universal", False))


def read(path: Path) -> Checkpoint:
    """Read a checkpoint that `why_incomplete` has found complete."""
    return Checkpoint(path, json.loads((path / MANIFEST).read_text(encoding="utf-8")))


def facts_of_files(
    root: Path, files: Iterable[Path], read: Callable[[int], None] = lambda count: None
) -> FileFacts:
    """Return size and hash of files, by their names below `root`.

    Args:
        read: is told of bytes as they are read, from several threads.
    """
    paths = sorted(files)
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing lets other threads run
        hashes = list(pool.map(lambda path: _sha256(path, read), paths))
    return {
        str(path.relative_to(root)): {"bytes": path.stat().st_size, "sha256": digest}
        for path, digest in zip(paths, hashes, strict=True)
    }


def why_incomplete(path: Path, hashed: bool = True) -> str:
    """Return why a folder is no complete checkpoint, empty where it is one.

    What cannot be read, for whatever reason of the file system, is not complete.

    Args:
        hashed: read every byte; without, files are told apart by their sizes.
    """
    try:
        return why_files_differ(path) or (why_damaged(path) if hashed else "")
    except OSError as error:
        return f"{error.filename or path} {CANNOT_BE_READ}: {error.strerror or error}"


def why_damaged(
    path: Path,
    mine: Callable[[str], bool] = lambda name: True,
    tell: Callable[[str], None] = lambda text: None,
) -> str:
    """Return why a checkpoint's files are not to be loaded, empty where they are.

    They must be what was written, and hold no more than the restricted loader takes.

    Args:
        path: a checkpoint that is complete but for its files' content.
        mine: chooses among the files of the manifest.
        tell: takes a line now and then, of how far it has come.

    Raises:
        OSError: a file cannot be read.
    """
    from train.checkpoint.safe_load import why_unsafe  # imports torch, which reports do without

    files = {name: facts for name, facts in read(path).manifest["files"].items() if mine(name)}
    total = sum(int(facts["bytes"]) for facts in files.values())
    progress = ByteProgress(f"checking {path}", total, tell)
    for name, facts in facts_of_files(path, [path / name for name in files], progress.add).items():
        if facts["sha256"] != files[name]["sha256"]:
            return f"{name} is not what was written (sha256 differs)"
    for name in files:
        unsafe = why_unsafe(path / name) if name.endswith((*PICKLES, CONTENTS)) else ""
        if unsafe:
            return f"{name} is no state of a run and would run code when loaded: {unsafe}"
    return ""


def _sha256(path: Path, read: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            read(len(chunk))
    return digest.hexdigest()
