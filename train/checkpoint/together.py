"""What all ranks do before a run goes on: each reads its share of a checkpoint, and all agree.

A checkpoint of 7 billion parameters has some 98 GB; one rank alone would read them for minutes
while the others wait.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path

from train.checkpoint.beginning import Resume
from train.checkpoint.find import find
from train.checkpoint.manifest import Checkpoint, why_damaged
from train.cluster.distributed import World

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

    while True:
        found = world.run_on_main(lambda: find(resume, folder, once, hashed=False, damaged=damaged))
        if found is None:
            return None
        reason = damage(found.path, world, say)
        if not reason:
            return found
        damaged[found.path] = reason


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
        reason = f"{error.filename or path} cannot be read: {error.strerror or error}"
    world.wait_for_all()
    return next(filter(None, world.gather(reason)), "")


def reader(name: str, ranks: int) -> int:
    """Return the rank that reads a file: the one that wrote it where there are as many."""
    written = _OF_RANK.search(name)
    return (int(written[1]) if written else zlib.crc32(name.encode())) % ranks
