"""Has another process hold a folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from train.system.lease import Lease
from train.system.lease_files import NAME
from train.system.processes import started


@contextmanager
def held_by_another(folder: Path, name: str = NAME) -> Iterator[Lease]:
    """Another living process has the folder within."""
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as other:
        lease = Lease(folder, "it", name=name)
        lease.holder = replace(lease.holder, pid=other.pid, started=started(other.pid))
        lease.take()
        yield lease
        lease.release()
