"""Reads the members of a gzip file, and counts the bytes after them that are not gzip."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAGIC = b"\x1f\x8b"
BROKEN_GZIP = (EOFError, zlib.error)
_READ_BYTES = 1 << 18
_GZIP_WINDOW = 31  # zlib's number for a gzip header, a full window, and a checked CRC and length


class GzipMembers(io.RawIOBase):
    """The content of all members, one after the other; zeros between them are skipped.

    Reading raises EOFError where a member breaks off and zlib.error where it is corrupt.

    Attributes:
        trailing: bytes after the last member that do not begin another; known at the end.
    """

    def __init__(self, path: Path) -> None:
        self.trailing = 0
        self._file = path.open("rb")
        self._input = b""
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._size = path.stat().st_size

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        while not self._member.eof or self._begin_member():
            data = self._input or self._file.read(_READ_BYTES)
            content = self._member.decompress(data, len(view))
            self._input = self._member.unused_data or self._member.unconsumed_tail
            if content:
                view[: len(content)] = content
                return len(content)
            if not data and not self._member.eof:
                raise EOFError("it ends before its end-of-stream marker")
        return 0

    def _begin_member(self) -> bool:
        """Return whether another member follows; what else follows is counted."""
        if self.trailing:
            return False
        rest = self._input.lstrip(b"\0")
        while len(rest) < len(MAGIC) and (more := self._file.read(_READ_BYTES)):
            rest = (rest + more).lstrip(b"\0")
        self._input = rest
        if not rest:
            return False
        if rest.startswith(MAGIC) or rest == MAGIC[:1]:
            self._member = zlib.decompressobj(_GZIP_WINDOW)
            return True
        self.trailing = len(rest) + self._size - self._file.tell()
        return False
