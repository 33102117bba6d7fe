"""Has a process beside this rank write snapshots, while the rank trains on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from train.checkpoint import writer_process
from train.checkpoint.manifest import FileFacts
from train.engines.snapshot import Place, Snapshot
from train.system.shared_memory import Arena


@dataclass(frozen=True)
class Report:
    """What became of one rank's files.

    Args:
        failure: why not all were written; None where they were.
        facts: size and hash of those that were.
        places: where the archives lie in each.
    """

    failure: Exception | None = None
    facts: FileFacts = field(default_factory=dict)
    places: dict[str, list[Place]] = field(default_factory=dict)


class Writer:
    """The process that writes what lies in an arena; started at the first snapshot, and again
    where it was killed.

    Args:
        arena: what both processes see.
    """

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self._process: subprocess.Popen[bytes] | None = None
        self._reports = ThreadPoolExecutor(1, "checkpoint-writer")

    @property
    def pid(self) -> int | None:
        """Number of the process; None before it was started."""
        return self._process.pid if self._process is not None else None

    def write(self, snapshot: Snapshot, root: Path) -> Future[Report]:
        """Copy a snapshot, and have its files written below `root`.

        Raises nothing. The next may come once the future is done.
        """
        try:
            process = self._send(snapshot, root)
        except (OSError, MemoryError, RuntimeError) as error:  # torch's own are the last
            failed: Future[Report] = Future()
            failed.set_result(Report(error))
            return failed
        return self._reports.submit(_report, process)

    def close(self) -> None:
        """End the process, whatever it does, and give the memory back."""
        if self._process is not None:
            self._process.kill()
            self._reports.shutdown()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(BrokenPipeError):  # an order that it did not live to read
                    _pipe(pipe).close()
            self._process = None
        self.arena.close()

    def _send(self, snapshot: Snapshot, root: Path) -> subprocess.Popen[bytes]:
        size = snapshot.size
        order, place = _order(snapshot, root)
        snapshot.size += len(order)
        snapshot.copy(self.arena)
        self.arena.put(order, size)
        where = {"size": self.arena.capacity, "order": place}
        process = self._started()
        with suppress(BrokenPipeError):  # killed just now: its report, which does not come, says so
            _pipe(process.stdin).write(json.dumps(where).encode() + b"\n")
            _pipe(process.stdin).flush()
        return process

    def _started(self) -> subprocess.Popen[bytes]:
        """Return the process, which lives."""
        if self._process is None or self._process.poll() is not None:
            own = (self.arena.descriptor, os.getpid())
            self._process = subprocess.Popen(
                # -I -S: neither the environment nor installed packages have a say in it
                [sys.executable, "-I", "-S", writer_process.__file__, *map(str, own)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=own[:1],
            )
        return self._process


def _order(snapshot: Snapshot, root: Path) -> tuple[bytes, Place]:
    """Return what the process is to do and needs beside the tensors, to be put behind these.

    Returns the bytes, and where the JSON among them will lie.
    """
    pieces = []
    end = snapshot.size
    files: dict[str, list[tuple[Place, tuple[Place, ...]]]] = {}
    for path, archives in snapshot.archives.items():
        own = files[str(path.relative_to(root))] = []
        for archive in archives:
            own.append(((end, len(archive.content)), archive.storages))
            pieces.append(archive.content)
            end += len(archive.content)
    pieces.append(json.dumps({"root": str(root.absolute()), "files": files}).encode())
    return b"".join(pieces), (end, len(pieces[-1]))


def _report(process: subprocess.Popen[bytes]) -> Report:
    """Wait for the process's line."""
    line = _pipe(process.stdout).readline()
    if not line.endswith(b"\n"):
        return Report(RuntimeError(f"the process that writes it {_end(process.wait())}"))
    said = json.loads(line)
    failure = said["failure"]
    return Report(
        None if failure is None else OSError(failure["errno"], failure["text"]),
        said["files"],
        {name: [(start, size) for start, size in own] for name, own in said["places"].items()},
    )


def _end(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "the process was started with pipes"
    return pipe
