"""Writes a checkpoint so that a kill leaves the older ones whole.

The files go to a temporary folder and are synced; once all ranks are done, one rename makes it a
checkpoint, and then the pointer names it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from train.checkpoint.manifest import (
    FORMAT,
    LATEST,
    MANIFEST,
    RANK_STATE,
    STATE,
    TEMPORARY,
    FileFacts,
    commit_number,
    facts_of_files,
)
from train.checkpoint.space import NotSaved, describe_failure, shortage
from train.cluster.distributed import World
from train.engines.protocol import Engine, WrittenState
from train.system.files import sync, write_atomically

_OLD = ".old-"


def save(
    engine: Engine,
    folder: Path,
    step: int,
    client_state: Mapping[str, Any],
    run_identity: Mapping[str, Any],
    world: World,
    needed: int = 0,
    rank_state: Mapping[str, Any] | None = None,
) -> Path:
    """Write one checkpoint, and return its folder. Collective.

    Every rank writes, hashes and syncs its own files; rank 0 renames once all are done. A run that
    dies at any moment leaves the older ones as they were.

    Args:
        needed: bytes it will take; less room than that is refused before anything is written.
        rank_state: what this rank alone gets back: tensors, lists and numbers.

    Raises:
        NotSaved: the disk is full, or a write failed on any rank. On every rank.
    """
    final = folder / f"step-{step:08d}"
    temporary = folder / f"{TEMPORARY}{final.name}"
    _raise_on_all(world, world.run_on_main(lambda: _make_empty(temporary, needed)), temporary)
    written = engine.write_state(temporary / STATE, client_state)
    if rank_state is not None:
        path = temporary / STATE / RANK_STATE.format(world.rank)
        written.save(path, lambda: torch.save(dict(rank_state), path))
    files: FileFacts = {}
    failures = []
    for rank, (failure, facts) in enumerate(world.gather(_finish(written, temporary))):
        files |= facts
        if failure:
            failures.append(f"rank {rank}: {failure}")
    _raise_on_all(world, failures[0] if failures else "", temporary)
    manifest = {"format": FORMAT, "step": step, **run_identity, "files": files}
    _raise_on_all(world, world.run_on_main(lambda: _commit(temporary, final, manifest)), temporary)
    return final


def commit(temporary: Path, final: Path, manifest: dict[str, Any]) -> None:
    """Make a checkpoint of a finished folder, whose files are synced: manifest, sync, rename.

    Raises:
        OSError: it could not be written; or a file in the manifest cannot be seen from here.
    """
    unseen = [name for name in manifest["files"] if not (temporary / name).is_file()]
    if unseen:
        raise OSError(
            f"{temporary / unseen[0]} was written by another node and is not here; put output_dir "
            "where every node sees it"
        )
    write_atomically(temporary / MANIFEST, json.dumps(manifest, indent=1))
    folders = [path for path in temporary.rglob("*") if path.is_dir()]
    for folder in [*folders, temporary]:
        sync(folder)
    old = final.with_name(_OLD + final.name)
    if final.exists():  # steps run again after a resume from an older checkpoint
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.rename(temporary, final)
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def prune(folder: Path, keep: int, keep_every: int = 0) -> None:
    """Remove all but the `keep` checkpoints written last, and what a killed run left behind.

    The order is that of writing, not of steps: after going back to an earlier step, a damaged or
    abandoned later one must not push the new ones out. Complete ones whose step is a multiple of
    `keep_every` stay.
    """
    # A universal checkpoint has served once its run has gone on.
    for pattern in (f"{TEMPORARY}*", f"{_OLD}*", "universal-*"):
        for stale in folder.glob(pattern):
            _remove(stale)
    if not keep:
        return

    def rank(path: Path) -> tuple[int, str]:
        return (commit_number(path) or 0, path.name)

    for path in sorted(folder.glob("step-*"), key=rank, reverse=True)[keep:]:
        step = int(path.name.removeprefix("step-"))
        complete = commit_number(path) is not None
        if not (keep_every and step % keep_every == 0 and complete):
            _remove(path)


def _remove(path: Path) -> None:
    # The manifest goes first, so that a kill half-way leaves nothing that looks whole.
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _raise_on_all(world: World, failure: str, temporary: Path) -> None:
    """Raise on every rank, all of which have the same `failure`: none goes on where one cannot."""
    if failure:
        world.run_on_main(lambda: shutil.rmtree(temporary, ignore_errors=True))
        raise NotSaved(failure)


def _make_empty(temporary: Path, needed: int) -> str:
    """Make an empty folder; return why that failed, or empty."""
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        return shortage(temporary.parent, needed)
    except OSError as error:
        return f"cannot write checkpoints to {temporary.parent}: {error.strerror}"


def _commit(temporary: Path, final: Path, manifest: dict[str, Any]) -> str:
    try:
        orders = [commit_number(path) or 0 for path in final.parent.glob("step-*")]
        commit(temporary, final, manifest | {"commit": max(orders, default=0) + 1})
        write_atomically(final.parent / LATEST, final.name + "\n")
    except OSError as error:
        return describe_failure(error, final.parent)
    return ""


def _finish(written: WrittenState, root: Path) -> tuple[str, FileFacts]:
    """Sync and hash this rank's files; return why that failed, or empty, and their facts."""
    facts: FileFacts = {}

    def act() -> None:
        for path in written.paths:
            sync(path)
        facts.update(facts_of_files(root, written.paths))

    written.attempt(root, act)
    if written.failure is None:
        return "", facts
    error, folder = written.failure
    return describe_failure(error, folder), facts
