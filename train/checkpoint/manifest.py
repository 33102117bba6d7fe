"""Reads and checks the manifest that makes a folder a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.system.cpu_count import cpu_count

MANIFEST = "manifest.json"
STATE = "state"
RANK_STATE = "own_rank_{:05d}.pt"  # within STATE
LATEST = "latest"
FORMAT = 3
_PICKLES = (".pt", ".pth", ".bin", ".pkl")  # what DeepSpeed might open, and unpickle in full
_THREADS = min(8, cpu_count())

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


def facts_of_files(root: Path, files: Iterable[Path]) -> FileFacts:
    """Return size and hash of files, by their names below `root`."""
    paths = sorted(files)
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing lets other threads run
        hashes = list(pool.map(_sha256, paths))
    return {
        str(path.relative_to(root)): {"bytes": path.stat().st_size, "sha256": digest}
        for path, digest in zip(paths, hashes, strict=True)
    }


def why_incomplete(path: Path, hashed: bool = True) -> str:
    """Return why a folder is no complete checkpoint, empty where it is one.

    Args:
        hashed: read every byte; without, files are told apart by their sizes.
    """
    if not path.is_dir():
        return "no such folder"
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = {
            str(name): (int(facts["bytes"]), str(facts["sha256"]))
            for name, facts in manifest["files"].items()
        }
        int(manifest["step"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is missing or unreadable"
    if manifest.get("format") != FORMAT:
        return f"format {manifest.get('format')}, this version reads {FORMAT}"
    if not files:
        return f"{MANIFEST} names no files"
    for name, (size, _) in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if (path / name).stat().st_size != size:
            return f"{name} has {(path / name).stat().st_size} bytes, the manifest says {size}"
    looked_at = (path / name for name in files if hashed)
    for name, facts in facts_of_files(path, looked_at).items():
        if facts["sha256"] != files[name][1]:
            return f"{name} is not what was written (sha256 differs)"
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
