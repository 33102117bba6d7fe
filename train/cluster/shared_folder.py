"""Finds a folder that is each node's own where all nodes need the same, before a step is taken."""

from __future__ import annotations

import os
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path

from train.cluster.distributed import World
from train.errors import UserError
from train.system.patience import patiently

PATIENCE = 75.0  # seconds; NFS may show a folder as it was for a minute
_PAUSE = 0.5


def check_shared(key: str, folder: Path, world: World, patience: float = PATIENCE) -> None:
    """Check that every rank sees what rank 0 writes into a folder. Collective.

    Args:
        key: the setting that names the folder.
        patience: seconds that a file may take to appear elsewhere.

    Raises:
        UserError: rank 0 cannot write there, or a rank does not see it. On every rank.
    """
    path = world.run_on_main(lambda: _leave(key, folder))
    try:
        check_seen(key, path, world, patience)
    finally:
        if world.is_main:
            with suppress(OSError):  # an empty file stays
                path.unlink(missing_ok=True)


def check_seen(key: str, path: Path, world: World, patience: float = PATIENCE) -> None:
    """Check that every rank sees a file that rank 0 has written. Collective.

    Raises:
        UserError: names the hosts of ranks that do not. On every rank.
    """
    words = world.gather((socket.gethostname(), _appears(path, patience)))
    blind = sorted({f"{host} (rank {rank})" for rank, (host, seen) in enumerate(words) if not seen})
    if blind:
        named = ", ".join(blind[:4]) + " and others" * (len(blind) > 4)
        raise UserError(
            f"{key}: {path.parent} is not the same folder everywhere: what rank 0 wrote there on "
            f"{words[0][0]} is not there on {named}; put it on a file system that every node shares"
        )


def _leave(key: str, folder: Path) -> Path:
    path = folder / f".seen-by-all-{uuid.uuid4().hex}"
    try:
        patiently(path.touch)
    except OSError as error:
        raise UserError(f"{key}: cannot write to {folder}: {error.strerror}") from None
    return path


def _appears(path: Path, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while not os.path.exists(path):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE)
    return True
