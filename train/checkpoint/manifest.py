"""Reads and checks the manifest that makes a folder a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.checkpoint.byte_progress import ByteProgress
from train.system.cpu_count import cpu_count

MANIFEST = "manifest.json"
STATE = "state"
RANK_STATE = "own_rank_{:05d}.pt"  # within STATE
LATEST = "latest"
FORMAT = 3
CONTENTS = ".metadata"  # of FSDP2's shards, a pickle too
_PICKLES = (".pt", ".pth", ".bin", ".pkl")  # what DeepSpeed might open, and unpickle in full
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
        """True where it fits any world size and ZeRO stage 1 to 3."""
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
        return _why_incomplete(path) or (why_damaged(path) if hashed else "")
    except OSError as error:
        return f"{error.filename or path} cannot be read: {error.strerror or error}"


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
        unsafe = why_unsafe(path / name) if name.endswith((*_PICKLES, CONTENTS)) else ""
        if unsafe:
            return f"{name} is no state of a run and would run code when loaded: {unsafe}"
    return ""


def _why_incomplete(path: Path) -> str:
    if not path.is_dir():
        return "no such folder"
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): int(facts["bytes"]) for name, facts in manifest["files"].items()}
        [str(facts["sha256"]) for facts in manifest["files"].values()]
        int(manifest["step"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is missing or unreadable"
    if manifest.get("format") != FORMAT:
        return f"format {manifest.get('format')}, this version reads {FORMAT}"
    if not files:
        return f"{MANIFEST} names no files"
    for name, size in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if (path / name).stat().st_size != size:
            return f"{name} has {(path / name).stat().st_size} bytes, the manifest says {size}"
    pickles = [file for file in path.rglob("*") if file.suffix in _PICKLES]
    unknown = sorted({str(file.relative_to(path)) for file in pickles} - set(files))
    return f"{unknown[0]} is not in the manifest" if unknown else ""


def commit_number(path: Path) -> int | None:
    """Return the number of the commit, which grows by one with each; None where none is noted.

    It is not the step: after going back to an earlier step, the newest is not the one of the
    highest.
    """
    try:
        return int(json.loads((path / MANIFEST).read_text(encoding="utf-8"))["commit"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sha256(path: Path, read: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            read(len(chunk))
    return digest.hexdigest()
