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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

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

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """A checkpoint that is being written.

    Args:
        step: optimizer steps done.
        temporary: the folder that its files go to, whose name is of this job alone, so that what is
            renamed holds the files of one job.
        final: what that becomes.
        nonce: of this job.
    """

    step: int
    temporary: Path
    final: Path
    nonce: str

    @property
    def state(self) -> Path:
        """Where the engine's files go."""
        return self.temporary / STATE

    def rank_state(self, rank: int) -> Path:
        """Return the file of what a rank alone gets back."""
        return self.state / RANK_STATE.format(rank)

    def manifest(self, run_identity: Mapping[str, Any], files: FileFacts) -> dict[str, Any]:
        """Return what its manifest says."""
        facts = {"nonce": self.nonce, "files": files}
        return {"format": FORMAT, "step": self.step, **run_identity, **facts}


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
    dies at any moment leaves the older ones as they were.

    Args:
        needed: bytes it will take; less room than that is refused before anything is written.
        rank_state: what this rank alone gets back: tensors, lists and numbers.
        lease: rank 0's right to write here, which must still hold when it commits.

    Raises:
        NotSaved: the disk is full, or a write failed on any rank. On every rank.
        UserError: another job has taken the folder over; nothing was committed. On every rank.
    """
    target = begin(folder, step, world, needed, lease)
    written = engine.write_state(target.state, client_state)
    if rank_state is not None:
        path = target.rank_state(world.rank)
        written.save(path, lambda: torch.save(dict(rank_state), path))
    facts = _finish(written, target.temporary)
    every = gather_written(world, target, written.failure, facts)
    files = {name: own for theirs in every for name, own in theirs.items()}
    manifest = target.manifest(run_identity, files)
    raise_on_all(
        world, target, world.run_on_main(lambda: commit_and_point(target, manifest, lease))
    )
    return target.final


def begin(
    folder: Path, step: int, world: World, needed: int = 0, lease: Lease | None = None
) -> Target:
    """Make the temporary folder of a checkpoint. Collective.

    Raises:
        NotSaved: that failed, or there is too little room for `needed` bytes. On every rank.
    """
    final = folder / step_name(step)
    nonce = world.run_on_main(lambda: lease.nonce if lease else uuid.uuid4().hex[:12])
    target = Target(step, folder / f"{TEMPORARY}{final.name}.{nonce}", final, nonce)
    raise_on_all(world, target, world.run_on_main(lambda: _make_empty(target.temporary, needed)))
    return target


def gather_written(
    world: World, target: Target, failure: tuple[Exception, Path] | None, value: T
) -> list[T]:
    """Return every rank's value once all have written their files. Collective.

    Args:
        failure: why this rank could not write all of its files, and where; None where it could.
        value: what the others must know of them.

    Raises:
        NotSaved: a rank could not. On every rank.
    """
    own = describe_failure(*failure) if failure is not None else ""
    every = world.gather((own, value))
    failures = [f"rank {rank}: {reason}" for rank, (reason, _) in enumerate(every) if reason]
    raise_on_all(world, target, failures[0] if failures else "")
    return [theirs for _, theirs in every]


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


def commit_and_point(target: Target, manifest: dict[str, Any], lease: Lease | None) -> str:
    """Commit a checkpoint and have the pointer name it; return why that failed, or empty.

    Raises:
        LeaseLost: another job has taken the folder over.
    """
    final = target.final
    try:
        orders = [commit_number(path) or 0 for path in step_folders(final.parent)]
        commit(target.temporary, final, manifest | {"commit": max(orders, default=0) + 1}, lease)
        write_atomically(final.parent / LATEST, final.name + "\n")
    except LeaseLost:
        shutil.rmtree(target.temporary, ignore_errors=True)
        raise
    except OSError as error:
        return describe_failure(error, final.parent)
    return ""


def raise_on_all(world: World, target: Target, failure: str) -> None:
    """Raise on every rank, all of which have the same `failure`: none goes on where one cannot."""
    if failure:
        world.run_on_main(lambda: shutil.rmtree(target.temporary, ignore_errors=True))
        raise NotSaved(failure)


def _make_empty(temporary: Path, needed: int) -> str:
    """Make an empty folder; return why that failed, or empty."""
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        return shortage(temporary.parent, needed)
    except OSError as error:
        return f"cannot write checkpoints to {temporary.parent}: {error.strerror}"


def _finish(written: WrittenState, root: Path) -> FileFacts:
    """Sync and hash this rank's files, and return their facts; a failure is noted."""
    facts: FileFacts = {}

    def act() -> None:
        for path in written.paths:
            sync(path)
        facts.update(facts_of_files(root, written.paths))

    written.attempt(root, act)
    return facts
