"""Writes a checkpoint so that a kill leaves the older ones whole.

The files go to a temporary folder and are synced; once all ranks are done, one rename makes it a
checkpoint, and then the pointer names it.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
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
    FileFacts,
    commit_number,
    facts_of_files,
)
from train.checkpoint.names import OLD, TEMPORARY, step_folders, step_name
from train.checkpoint.space import NotSaved, describe_failure, shortage
from train.cluster.distributed import World
from train.engines.protocol import Engine, WrittenState
from train.system.files import sync, write_atomically
from train.system.lease import Lease, LeaseLost


def save(
    engine: Engine,
    folder: Path,
    step: int,
    client_state: Mapping[str, Any],
    run_identity: Mapping[str, Any],
    world: World,
    needed: int = 0,
    rank_state: Mapping[str, Any] | None = None,
    lease: Lease | None = None,
) -> Path:
    """Write one checkpoint, and return its folder. Collective.

    Every rank writes, hashes and syncs its own files; rank 0 renames once all are done. A run that
    dies at any moment leaves the older ones as they were. The temporary folder's name is of this
    job alone, so that what is renamed holds the files of one job.

    Args:
        needed: bytes it will take; less room than that is refused before anything is written.
        rank_state: what this rank alone gets back: tensors, lists and numbers.
        lease: rank 0's right to write here, which must still hold when it commits.

    Raises:
        NotSaved: the disk is full, or a write failed on any rank. On every rank.
        UserError: another job has taken the folder over; nothing was committed. On every rank.
    """
    final = folder / step_name(step)
    nonce = world.run_on_main(lambda: lease.nonce if lease else uuid.uuid4().hex[:12])
    temporary = folder / f"{TEMPORARY}{final.name}.{nonce}"
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
    manifest = {"format": FORMAT, "step": step, **run_identity, "nonce": nonce, "files": files}
    _raise_on_all(
        world, world.run_on_main(lambda: _commit(temporary, final, manifest, lease)), temporary
    )
    return final


def commit(
    temporary: Path, final: Path, manifest: dict[str, Any], lease: Lease | None = None
) -> None:
    """Make a checkpoint of a finished folder, whose files are synced: manifest, sync, rename.

    Raises:
        OSError: it could not be written; or a file in the manifest cannot be seen from here.
        LeaseLost: another job has taken the folder over.
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
    if lease is not None:
        lease.check()
    old = final.with_name(OLD + final.name)
    if final.exists():  # steps run again after a resume from an older checkpoint
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.rename(temporary, final)
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


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


def _commit(temporary: Path, final: Path, manifest: dict[str, Any], lease: Lease | None) -> str:
    try:
        orders = [commit_number(path) or 0 for path in step_folders(final.parent)]
        commit(temporary, final, manifest | {"commit": max(orders, default=0) + 1}, lease)
        write_atomically(final.parent / LATEST, final.name + "\n")
    except LeaseLost:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
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
