"""Writes checkpoints beside a rank, from memory that both share: a program of its own.

python writer_process.py DESCRIPTOR PARENT

It imports nothing but Python's own library, so that it starts at once and takes a few megabytes.
On standard input comes a line of JSON for each order: {"size": of the memory, "order": where it
lies in there}. On standard output goes a line for each: {"failure", "files", "places"}.

An order is JSON, too: {"root": folder, "files": {name: [[data.pkl, [data/0, data/1, ...]], ...]}}.
Every file is a row of archives as torch.save writes them, and what is in them is a place in the
memory: [offset, bytes]. A file is hashed as it is written, and synced.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import select
import signal
import struct
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

NICENESS = 10  # a tenth of a core where the ranks want them all
_CHUNK = 4 << 20  # bytes written at once; the parent is looked for between two
_LOOK = 1.0  # seconds between two looks for the parent while nothing is to be done
_BUFFER = 1 << 20
_LARGE = 1 << 30  # bytes from which an entry has 64-bit sizes
_ALIGNMENT = 64  # of tensors within an archive, as torch has it
_ENTRY = 30  # bytes of an entry's header, without its name
_SIZES = 20  # bytes of 64-bit sizes in it
_PADDING = b"FB"  # the extra field that torch aligns with
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


class HashedFile:
    """A file that is hashed as it is written; zipfile takes it for a stream without seeking."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The hex digest of what was written so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes | memoryview) -> int:
        """Write and hash; return the bytes written: all."""
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: the file is flushed once, at its end."""


def write_archive(
    file: HashedFile, content: memoryview, storages: Iterable[memoryview], parent: int
) -> None:
    """Write what torch.save writes: a zip of data.pkl and of each storage, none compressed."""
    start = file.size
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]

        def entry(name: str, data: memoryview) -> None:
            large = len(data) >= _LARGE
            info = zipfile.ZipInfo(f"archive/{name}")
            header = _ENTRY + len(info.filename) + (_SIZES if large else 0)
            info.extra = _padding(file.size - start + header)
            with archive.open(info, "w", force_zip64=large) as record:
                for chunk in _chunks(data):
                    record.write(chunk)
                    leave_orphaned(parent)

        entry("data.pkl", content)
        entry(".format_version", memoryview(b"1"))
        entry(".storage_alignment", memoryview(str(_ALIGNMENT).encode()))
        entry("byteorder", memoryview(sys.byteorder.encode()))
        for number, storage in enumerate(storages):
            entry(f"data/{number}", storage)
        entry("version", memoryview(b"3\n"))


def write_file(
    path: str, archives: Iterable[Any], memory: memoryview, parent: int
) -> tuple[HashedFile, list[tuple[int, int]]]:
    """Write one file, and sync it.

    Returns its size and hash, and the offset and length of each archive.

    Raises:
        OSError: it cannot be written.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    places = []
    with open(path, "wb", buffering=_BUFFER) as raw:
        file = HashedFile(raw)
        for content, storages in archives:
            start = file.size
            pieces = (_at(memory, place) for place in storages)
            write_archive(file, _at(memory, content), pieces, parent)
            places.append((start, file.size - start))
        raw.flush()
        os.fsync(raw.fileno())
    return file, places


def carry_out(order: dict[str, Any], memory: memoryview, parent: int) -> dict[str, Any]:
    """Write an order's files; return what is to be said of them."""
    files = {}
    places = {}
    try:
        for name, archives in order["files"].items():
            path = os.path.join(order["root"], name)
            file, places[name] = write_file(path, archives, memory, parent)
            files[name] = {"bytes": file.size, "sha256": file.sha256}
    except OSError as error:
        failure = {"errno": error.errno or 0, "text": str(error)}
        return {"failure": failure, "files": files, "places": places}
    return {"failure": None, "files": files, "places": places}


def leave_orphaned(parent: int) -> None:
    """End at once where the rank is gone: nobody would commit what is written here."""
    if os.getppid() != parent:
        os._exit(1)


def _at(memory: memoryview, place: Sequence[int]) -> memoryview:
    offset, size = place
    return memory[offset : offset + size]


def _chunks(data: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


def _padding(position: int) -> bytes:
    """Return the extra field after which the data begin at a multiple of the alignment."""
    wanted = -(position + 4) % _ALIGNMENT
    return struct.pack("<2sH", _PADDING, wanted) + bytes(wanted)


def _orders(parent: int) -> Iterator[dict[str, Any]]:
    """Yield what comes on standard input, until it ends or the parent is gone."""
    waiting = b""
    while True:
        ready, _, _ = select.select([0], [], [], _LOOK)
        leave_orphaned(parent)
        if not ready:
            continue
        piece = os.read(0, 65536)
        if not piece:
            return
        *lines, waiting = (waiting + piece).split(b"\n")
        yield from map(json.loads, lines)


def _become_background() -> None:
    """Leave the rank's process group, whose signals are the rank's to answer, and be modest."""
    for name in _SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    os.setpgid(0, 0)
    os.nice(NICENESS)


def main(descriptor: int, parent: int) -> None:
    """Carry out orders until standard input ends."""
    _become_background()
    mapping = None
    for where in _orders(parent):
        if mapping is None or len(mapping) != where["size"]:
            mapping = mmap.mmap(descriptor, where["size"], prot=mmap.PROT_READ)
        memory = memoryview(mapping)
        order = json.loads(bytes(_at(memory, where["order"])))
        said = json.dumps(carry_out(order, memory, parent)) + "\n"
        sys.stdout.write(said)
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
