"""Writes a checkpoint: temporary folder, every file synced, all ranks done, one rename, then the
pointer.
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
    Facts,
    commit_number,
    facts_of,
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
    """Writes one checkpoint.

    Collective. A run that dies at any moment leaves the older ones as they were.

    Every rank writes, hashes and syncs its own files; rank 0 renames once all are done.

    Args:
        needed: bytes it will take; less room than that is refused before anything is written.
        own: what this rank alone gets back: tensors, lists and numbers.

    Raises:
        NotSaved: the disk is full, or a write failed on any rank. On every rank.
    """
    final = folder / f"step-{step:08d}"
    temporary = folder / f"{TEMPORARY}{final.name}"
    _agree(world, world.run_on_main(lambda: _fresh(temporary, needed)), temporary)
    written = engine.write_state(temporary / STATE, client_state)
    if rank_state is not None:
        path = temporary / STATE / RANK_STATE.format(world.rank)
        written.save(path, lambda: torch.save(dict(rank_state), path))
    told_by = world.gather(_finish(written, temporary))
    failures = [f"rank {rank}: {failure}" for rank, (failure, _) in enumerate(told_by) if failure]
    _agree(world, failures[0] if failures else "", temporary)
    files = {name: values for _, of_rank in told_by for name, values in of_rank.items()}
    manifest = {"format": FORMAT, "step": step, **run_identity, "files": files}
    _agree(world, world.run_on_main(lambda: _commit(temporary, final, manifest)), temporary)
    return final


def commit(temporary: Path, final: Path, manifest: dict[str, Any]) -> None:
    """Makes a checkpoint of a finished folder: manifest, sync, rename.

    The files are synced already.

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
    for path in [*(p for p in temporary.rglob("*") if p.is_dir()), temporary]:
        sync(path)
    old = final.with_name(_OLD + final.name)
    if final.exists():  # steps run again after a resume from an older checkpoint
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.rename(temporary, final)
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def prune(folder: Path, keep: int, keep_every: int = 0) -> None:
    """Removes all but the `keep` checkpoints written last, and what a killed run left half written.

    By the order of writing, not by step: after going back to an earlier step, a damaged or
    abandoned later one must not push the new ones out. Complete ones whose step is a multiple of
    `keep_every` stay.
    """
    for stale in [
        *folder.glob(f"{TEMPORARY}*"),
        *folder.glob(f"{_OLD}*"),
        *folder.glob("universal-*"),
    ]:
        _remove(stale)  # a universal one has served once its run has gone on
    written = sorted(
        folder.glob("step-*"), key=lambda path: (commit_number(path) or 0, path.name), reverse=True
    )
    for path in written[keep:] if keep else []:
        kept = (
            keep_every
            and int(path.name.removeprefix("step-")) % keep_every == 0
            and commit_number(path) is not None
        )
        if not kept:
            _remove(path)


def _remove(path: Path) -> None:
    # first, so that a kill half-way leaves no checkpoint that looks whole
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _agree(world: World, failure: str, temporary: Path) -> None:
    """Every rank has the same `failure`: none goes on where one cannot."""
    if failure:
        world.run_on_main(lambda: shutil.rmtree(temporary, ignore_errors=True))
        raise NotSaved(failure)


def _fresh(temporary: Path, needed: int) -> str:
    """An empty folder; why not, where there is none."""
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


def _finish(written: WrittenState, root: Path) -> tuple[str, Facts]:
    """Sync and hash this rank's files: why it failed, or empty, and what the manifest says of them."""
    facts: Facts = {}

    def act() -> None:
        for path in written.paths:
            sync(path)
        facts.update(facts_of(root, written.paths))

    written.attempt(root, act)
    if written.failure is None:
        return "", facts
    error, folder = written.failure
    return describe_failure(error, folder), facts
