"""Checkpoints that commit by rename: a folder is either complete, with a manifest, or it is not a checkpoint.

<output_dir>/checkpoints/step-00000100/state/...   what DeepSpeed writes, one file per rank
                                      /manifest.json   step, model, world size, and size and hash of every file
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from train.config import TrainConfig
from train.errors import UserError
from train.world import World

FOLDER = "checkpoints"
MANIFEST = "manifest.json"
_STATE = "state"
_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: its folder and what its manifest says."""

    path: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done when it was written."""
        return int(self.manifest["step"])


def identity(config: TrainConfig, world: World, zero_stage: int, data: str) -> dict[str, Any]:
    """What a checkpoint must share with the run that goes on from it."""
    return {
        "model": asdict(config.model) | {"activation_checkpointing": None, "attention": None},
        "optimizer": config.optim.name,
        "zero_stage": zero_stage,
        "world_size": world.size,
        "data": data,
        "sequence_length": config.data.sequence_length,
    }


def save(engine: Any, folder: Path, step: int, client_state: Mapping[str, Any], who: Mapping[str, Any], world: World) -> Path:
    """Writes one checkpoint. Collective.

    Every rank writes into a temporary folder; rank 0 hashes, syncs to disk and renames once all are done. A run that dies at
    any moment leaves the older checkpoints as they were.
    """
    final = folder / f"step-{step:08d}"
    temporary = folder / f".tmp-{final.name}"
    world.once(lambda: _fresh(temporary))
    engine.save_checkpoint(str(temporary), tag=_STATE, client_state=dict(client_state), save_latest=False)
    world.barrier()
    world.once(lambda: _commit(temporary, final, {"format": _FORMAT, "step": step, **who}))
    return final


def prune(folder: Path, keep: int) -> None:
    """Removes all but the `keep` checkpoints written last, and what a killed run left half written.

    By time, not by step: after going back to an earlier step, a damaged or abandoned later one must not push the new ones out.
    """
    for stale in folder.glob(".tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    if keep:
        for old in sorted(folder.glob("step-*"), key=_written, reverse=True)[keep:]:
            (old / MANIFEST).unlink(missing_ok=True)  # first, so that a kill half-way leaves no checkpoint that looks whole
            shutil.rmtree(old, ignore_errors=True)


def find(resume: str, folder: Path, say: Any) -> Checkpoint | None:
    """The checkpoint to go on from: the newest complete one for "auto", none for "never", else the one at the path given.

    Raises:
        UserError: the path given is no complete checkpoint; or there are checkpoints and not one is complete.
    """
    if resume == "never":
        return None
    if resume != "auto":
        problem = _problem(Path(resume))
        if problem:
            raise UserError(f"resume: {resume} is no complete checkpoint: {problem}; name a folder such as {folder}/step-00000100")
        return _read(Path(resume))
    found = sorted(folder.glob("step-*"), reverse=True) if folder.is_dir() else []
    for path in found:
        problem = _problem(path)
        if not problem:
            return _read(path)
        say(f"passing over {path}: {problem}")
    if found:
        raise UserError(f"{folder} has checkpoints and none is complete; --resume never starts again, in an output_dir of its own")
    return None


def check_identity(checkpoint: Checkpoint, who: Mapping[str, Any]) -> None:
    """Refuses a checkpoint of another model, data or world.

    Raises:
        UserError: names every value that differs.
    """
    saved = checkpoint.manifest
    differences = list(_differences("", {key: saved.get(key) for key in who}, who))
    if differences:
        raise UserError(
            f"{checkpoint.path} was written by another run: {'; '.join(differences)}. "
            "Go on with the recipe it was written with, or give this run an --output_dir of its own"
        )


def load(engine: Any, checkpoint: Checkpoint) -> dict[str, Any]:
    """Loads weights, moments and client state into the engine. Collective. The manifest's hashes have been checked."""
    path, client_state = engine.load_checkpoint(str(checkpoint.path), tag=_STATE)
    if path is None:
        raise UserError(f"DeepSpeed found nothing to load in {checkpoint.path}")
    return dict(client_state)


def _differences(prefix: str, saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key, value in now.items():
        if isinstance(value, Mapping) and isinstance(saved.get(key), Mapping):
            yield from _differences(f"{prefix}{key}.", saved[key], value)
        elif saved.get(key) != value:
            yield f"{prefix}{key} was {saved.get(key)}, is {value}"


def _fresh(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write checkpoints to {path.parent}: {error.strerror}") from None


def _commit(temporary: Path, final: Path, manifest: dict[str, Any]) -> None:
    files = sorted(path for path in temporary.rglob("*") if path.is_file())
    manifest["files"] = {str(p.relative_to(temporary)): {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in files}
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in [*files, temporary / MANIFEST, temporary / _STATE, temporary]:
        _sync(path)
    if final.exists():  # steps run again after a resume from an older checkpoint
        shutil.rmtree(final)
    os.rename(temporary, final)
    _sync(final.parent)


def _problem(path: Path) -> str:
    """Why a folder is no complete checkpoint; empty where it is one."""
    if not path.is_dir():
        return "no such folder"
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        facts_of = {str(name): (int(facts["bytes"]), str(facts["sha256"])) for name, facts in manifest["files"].items()}
        int(manifest["step"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is missing or unreadable"
    if manifest.get("format") != _FORMAT:
        return f"format {manifest.get('format')}, this version reads {_FORMAT}"
    for name, (size, sha256) in facts_of.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, the manifest says {size}"
        if _sha256(file) != sha256:
            return f"{name} is not what was written (sha256 differs)"
    return ""


def _written(path: Path) -> tuple[int, str]:
    """When a checkpoint was committed; one without manifest never was."""
    manifest = path / MANIFEST
    return (manifest.stat().st_mtime_ns if manifest.is_file() else 0), path.name


def _read(path: Path) -> Checkpoint:
    return Checkpoint(path, json.loads((path / MANIFEST).read_text()))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
