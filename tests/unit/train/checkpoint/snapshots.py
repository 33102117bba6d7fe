"""A writer, its process and what they write, for the tests of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from train.checkpoint.writer import Writer
from train.engines.snapshot import Snapshot
from train.system.shared_memory import Arena


@contextmanager
def writer() -> Iterator[Writer]:
    """One that is ended after."""
    own = Writer(Arena(torch.device("cpu")))
    try:
        yield own
    finally:
        own.close()


def snapshot_of(path: Path, state: Any) -> Snapshot:
    """A snapshot of one file."""
    snapshot = Snapshot()
    snapshot.take(path, state)
    assert snapshot.failure is None
    return snapshot
