"""Knows files of text by their content, so that a copied or touched corpus is the same corpus.

A preparation hashes each file right after it was read, while the system still has it in memory, and
keeps the hashes with its result. A corpus at other paths or times is compared by size first; only
where all sizes are those of something prepared are its files read, once: the hashes are kept by
path, size, time and inode.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from train.data.sources.chunks import ROW_SUFFIXES
from train.errors import UserError
from train.system.cpu_count import cpu_count
from train.system.files import sha256_of, write_atomically

CACHE_NAME = ".hashes.json"
Kept: TypeAlias = list[int | str]  # size, modification time in ns, inode, hash


@dataclass(frozen=True)
class FileFacts:
    """What a file is but for its name and time.

    Args:
        form: how it is read: rows or text, and .gz where it is packed.
        size: bytes.
        sha256: of its bytes; empty where they were not read.
    """

    form: str
    size: int
    sha256: str = ""


def facts_of(path: Path) -> FileFacts:
    """Return the facts of a file that take no reading."""
    form = "rows" if path.name.endswith(ROW_SUFFIXES) else "text"
    return FileFacts(form + (".gz" if path.suffix == ".gz" else ""), path.stat().st_size)


class HashCache:
    """The hashes of files by path, size, modification time and inode, in a folder.

    Args:
        folder: data.directory.
        writable: whether new hashes are kept there.
    """

    def __init__(self, folder: Path, writable: bool = True) -> None:
        self._path = folder / CACHE_NAME
        self._writable = writable
        self._new = False
        self._kept: dict[str, Kept] = {}
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            self._kept = {str(name): list(entry) for name, entry in kept.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            pass  # it only spares work

    def known(self, path: Path) -> str:
        """Return the hash of a file that is as it was when it was hashed; empty for another."""
        *key, digest = self._kept.get(str(path.resolve()), [""])
        return str(digest) if key == _key(path) else ""

    def sha256(self, path: Path) -> str:
        """Return the hash of a file; empty where the file changed while it was read.

        Raises:
            OSError: it cannot be read.
        """
        digest = self.known(path)
        if not digest:
            before = _key(path)
            digest = sha256_of(path)
            if _key(path) != before:
                return ""
            self._kept[str(path.resolve())] = [*before, digest]
            self._new = True
        return digest

    def save(self) -> None:
        """Keep what is new, if that can be written."""
        if self._new and self._writable:
            with suppress(OSError):
                write_atomically(self._path, json.dumps(self._kept))


class FollowingHashes:
    """Hashes files in a thread, each when it has been read; a context manager.

    Args:
        files: in the order of reading.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._keys = [_key(path) for path in files]
        self._pool = ThreadPoolExecutor(1)
        self._jobs: list[Future[str]] = []

    def read_up_to(self, count: int) -> None:
        """Note that the first `count` files have been read."""
        for path in self._files[len(self._jobs) : count]:
            self._jobs.append(self._pool.submit(sha256_of, path))

    @property
    def count(self) -> int:
        """Files that have been read."""
        return len(self._jobs)

    def result(self) -> list[FileFacts]:
        """Return the facts of the files that were read; nothing where one changed meanwhile."""
        hashes = [job.result() for job in self._jobs]
        read = self._files[: len(hashes)]
        if [_key(path) for path in read] != self._keys[: len(hashes)]:
            return []
        return [
            replace(facts_of(path), sha256=digest)
            for path, digest in zip(read, hashes, strict=True)
        ]

    def __enter__(self) -> FollowingHashes:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def same_content(
    files: Sequence[Path],
    prepared: Sequence[FileFacts],
    cache: HashCache,
    say: Callable[[str], None],
) -> bool:
    """Return whether files are those that were read for a preparation, in its order.

    Args:
        files: the corpus.
        prepared: what was read then.

    Raises:
        UserError: a file cannot be read.
    """
    there = [(facts.form, facts.size) for facts in map(facts_of, files)]
    if there != [(facts.form, facts.size) for facts in prepared]:
        return False
    unknown = [path for path in files if not cache.known(path)]
    if unknown:
        size = sum(path.stat().st_size for path in unknown)
        say(f"Hashing {len(unknown)} files, {size / 1e9:,.2f} GB: a corpus of their sizes is there")
    try:
        with ThreadPoolExecutor(min(8, cpu_count())) as pool:
            hashes = list(pool.map(cache.sha256, files))
    except OSError as error:
        raise UserError(
            f"data.files: {error.filename} cannot be read ({error.strerror}); mend it or take it "
            "out."
        ) from error
    cache.save()
    return hashes == [facts.sha256 for facts in prepared]


def _key(path: Path) -> Kept:
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]
