"""Writes a checkpoint: temporary folder, every file synced, all ranks done, one rename, then the
pointer.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from train.checkpoint.manifest import (
    FORMAT,
    LATEST,
    MANIFEST,
    OWN,
    STATE,
    TEMPORARY,
    Facts,
    facts_of,
    order,
)
from train.checkpoint.space import NotSaved, shortage, told
from train.files import sync, write_atomically
from train.world import World

_OLD = ".old-"


def save(
    engine: Any,
    folder: Path,
    step: int,
    client_state: Mapping[str, Any],
    who: Mapping[str, Any],
    world: World,
    needed: int = 0,
    own: Mapping[str, Any] | None = None,
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
    _agree(world, world.once(lambda: _fresh(temporary, needed)), temporary)
    with _watched(engine) as writes:
        engine.save_checkpoint(
            str(temporary), tag=STATE, client_state=dict(client_state), save_latest=False
        )
        if own is not None:
            writes.save(dict(own), str(temporary / STATE / OWN.format(world.rank)))
    facts = writes.finish(temporary)
    told_by = world.gather((writes.failure, facts))
    failures = [f"rank {rank}: {failure}" for rank, (failure, _) in enumerate(told_by) if failure]
    _agree(world, failures[0] if failures else "", temporary)
    files = {name: values for _, of_rank in told_by for name, values in of_rank.items()}
    manifest = {"format": FORMAT, "step": step, **who, "files": files}
    _agree(world, world.once(lambda: _commit(temporary, final, manifest)), temporary)
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
        abandoned later one must not push
    the new ones out. Complete ones whose step is a multiple of `keep_every` stay.
    """
    for stale in [
        *folder.glob(f"{TEMPORARY}*"),
        *folder.glob(f"{_OLD}*"),
        *folder.glob("universal-*"),
    ]:
        _remove(stale)  # a universal one has served once its run has gone on
    written = sorted(
        folder.glob("step-*"), key=lambda path: (order(path) or 0, path.name), reverse=True
    )
    for path in written[keep:] if keep else []:
        kept = (
            keep_every
            and int(path.name.removeprefix("step-")) % keep_every == 0
            and order(path) is not None
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
        world.once(lambda: shutil.rmtree(temporary, ignore_errors=True))
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
        orders = [order(path) or 0 for path in final.parent.glob("step-*")]
        commit(temporary, final, manifest | {"commit": max(orders, default=0) + 1})
        write_atomically(final.parent / LATEST, final.name + "\n")
    except OSError as error:
        return told(error, final.parent)
    return ""


class _Writes:
    """Stands in for DeepSpeed's writer of files.

    After a failure it writes nothing more and raises nothing: a rank that left DeepSpeed's save
    early would leave the others waiting in its barriers.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._paths: list[Path] = []
        self.failure = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """As the writer's."""
        self._try(Path(path), lambda: self._writer.makedirs(path, exist_ok=exist_ok))

    def save(self, state_dict: Any, path: str) -> None:
        """As the writer's; the file is synced."""
        self._try(Path(path), lambda: self._writer.save(state_dict, path))
        self._paths.append(Path(path))

    def finish(self, root: Path) -> Facts:
        """Syncs and hashes what was written."""
        facts: Facts = {}

        def act() -> None:
            for path in self._paths:
                sync(path)
            facts.update(facts_of(root, self._paths))

        self._try(root, act)
        return facts

    def _try(self, path: Path, act: Any) -> None:
        if self.failure:
            return
        try:
            act()
        except Exception as error:  # torch raises RuntimeError where the disk is full
            self.failure = told(error, path.parent)


@contextmanager
def _watched(engine: Any) -> Iterator[_Writes]:
    """DeepSpeed's files go through `_Writes`; its recovery scripts, which unpickle whatever they
    find, are left out.
    """
    writer = engine.checkpoint_engine
    writes = _Writes(writer)
    engine.checkpoint_engine = writes
    engine._copy_recovery_script = lambda folder: None
    try:
        yield writes
    finally:
        engine.checkpoint_engine = writer
        del engine._copy_recovery_script
