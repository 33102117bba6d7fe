"""What all ranks do before a run goes on: each reads its share of a checkpoint, and all agree.

A checkpoint of 7 billion parameters has some 98 GB; one rank alone would read them for minutes
while the others wait.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from train.checkpoint.beginning import Resume
from train.checkpoint.find import NoneReadable, find
from train.checkpoint.manifest import CANNOT_BE_READ, Checkpoint, why_damaged
from train.cluster.distributed import World
from train.system.patience import PAUSES

_OF_RANK = re.compile(r"(?:zero_pp_rank|own_rank)_0*(\d+)")


def find_together(
    resume: str | Resume, folder: Path, world: World, say: Callable[[str], None]
) -> Checkpoint | None:
    """Return the checkpoint to go on from, as `find` does, every byte checked. Collective.

    Raises:
        UserError: as `find`. On every rank.
    """
    damaged: dict[Path, str] = {}
    said: set[str] = set()

    def once(text: str) -> None:
        if text not in said:
            said.add(text)
            say(text)

    pauses = iter(PAUSES)
    while True:
        found = world.run_on_main(lambda: _look(resume, folder, once, damaged))
        if found is None:
            return None
        if isinstance(found, NoneReadable):
            pause = next(pauses, None)
            if pause is None:
                raise found
            say(f"no checkpoint in {folder} can be read now; looking again in {pause:.0f} s")
            time.sleep(pause)
            damaged.clear()
            continue
        reason = damage(found.path, world, say)
        if not reason:
            return found
        damaged[found.path] = reason


def _look(
    resume: str | Resume,
    folder: Path,
    say: Callable[[str], None],
    damaged: Mapping[Path, str],
) -> Checkpoint | NoneReadable | None:
    """Return what `find` returns or, so that every rank gets it, what it says of the disk."""
    try:
        return find(resume, folder, say, hashed=False, damaged=damaged)
    except NoneReadable as error:
        return error


def damage(path: Path, world: World, say: Callable[[str], None]) -> str:
    """Return why a checkpoint's files are not to be loaded, empty where they are. Collective.

    Every rank reads the files that it will load, and a share of the others; all return the same.
    """
    try:
        reason = why_damaged(
            path,
            lambda name: reader(name, world.size) == world.rank,
            say if world.is_main else lambda text: None,
        )
    except OSError as error:
        reason = f"{error.filename or path} {CANNOT_BE_READ}: {error.strerror or error}"
    world.wait_for_all()
    return next(filter(None, world.gather(reason)), "")


def reader(name: str, ranks: int) -> int:
    """Return the rank that reads a file: the one that wrote it where there are as many."""
    written = _OF_RANK.search(name)
    return (int(written[1]) if written else zlib.crc32(name.encode())) % ranks
