"""Cuts files into chunks of raw rows, each of which knows where the next one starts.

A chunk is the unit that workers encode. Its cuts depend on the corpus alone, never on who reads it,
and decide nothing but how work is shared out: the documents are the same whatever they are.
"""

from __future__ import annotations

import io
import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from train.data.sources.gzip_members import BROKEN_GZIP, GzipMembers

CHUNK_BYTES = 2_000_000
CHUNK_ROWS = 4096
ROW_SUFFIXES = (".json.gz", ".jsonl.gz", ".jsonl", ".json")
NOT_UTF8 = "not UTF-8"
AFTER_GZIP = "bytes after the end of the gzip data"
# More bytes than this after a good gzip are no stray ones: a member's header may be damaged there.
STRAY_BYTES = 1024
STRAY_SHARE = 0.01  # of the file
_BUFFER_BYTES = 1 << 18


class Refused(str):
    """Stands in a chunk for a row that cannot be used; the text is the reason."""


@dataclass
class Chunk:
    """Rows of a corpus, as they were read.

    Args:
        form: what the content of a row is: json (a line), text (the bytes of a file) or value (what
            the hub gave as text).
        rows: file, line (1-based; 0 for a whole file) and content of each.
        after: where the next chunk starts; what the source's `chunks` takes.
        begins: the file of rows whose first chunk this is; empty if it is none.
        ends: the file of rows whose last chunk this is; empty if it is none.
        broken: why the rest of that file cannot be read; empty if it was read to its end.
        bytes: size of the rows as they were read.
    """

    form: Literal["json", "text", "value"]
    rows: list[tuple[str, int, Any]] = field(default_factory=list)
    after: dict[str, Any] = field(default_factory=dict)
    begins: str = ""
    ends: str = ""
    broken: str = ""
    bytes: int = 0

    def add(self, file: str, line: int, content: Any, size: int) -> bool:
        """Append a row, and return whether the chunk is full."""
        self.rows.append((file, line, content))
        self.bytes += size
        return self.bytes >= CHUNK_BYTES or len(self.rows) >= CHUNK_ROWS


def file_chunks(
    paths: list[Path], max_row_bytes: int, start: dict[str, Any] | None
) -> Iterator[Chunk]:
    """Yield the chunks of files of rows (by their ending) and of texts (all others).

    Args:
        paths: the files, in order.
        max_row_bytes: longer rows are refused; 0 sets no limit.
        start: a chunk's `after`; None starts at the beginning.
    """
    at = start or {"file": 0, "offset": 0, "line": 0}
    while at["file"] < len(paths):
        path = paths[at["file"]]
        if path.name.endswith(ROW_SUFFIXES):
            chunks = _row_chunks(path, max_row_bytes, at)
        else:
            chunks = iter([_text_chunk(paths, max_row_bytes, at)])
        for chunk in chunks:
            at = chunk.after
            yield chunk


def _text_chunk(paths: list[Path], max_row_bytes: int, at: dict[str, Any]) -> Chunk:
    """Return one chunk of whole files, up to the next file of rows."""
    chunk = Chunk("text")
    number = at["file"]
    for path in paths[number:]:
        if path.name.endswith(ROW_SUFFIXES):
            break
        number += 1
        content, stray = _whole(path, max_row_bytes)
        if stray:
            chunk.add(str(path), 0, Refused(AFTER_GZIP), 0)
        if chunk.add(str(path), 0, content, len(content)):
            break
    chunk.after = {"file": number, "offset": 0, "line": 0}
    return chunk


def _whole(path: Path, max_row_bytes: int) -> tuple[bytes | Refused, bool]:
    """Return the content of a file, and whether stray bytes follow its gzip data."""
    try:
        with _Opened(path) as file:
            content = file.read(max_row_bytes + 1 if max_row_bytes else -1)
            if 0 < max_row_bytes < len(content):
                return too_long(max_row_bytes), False
            return content, file.stray()
    except BROKEN_GZIP:
        return Refused("truncated or corrupt gzip"), False


def _row_chunks(path: Path, max_row_bytes: int, at: dict[str, Any]) -> Iterator[Chunk]:
    offset = at["offset"]
    line = at["line"]
    begins = "" if at["offset"] else str(path)
    chunk = Chunk("json", begins=begins)
    broken = ""
    try:
        with _Opened(path, offset) as file:
            for raw, content in _lines(file, max_row_bytes):
                offset = offset + raw
                line = line + 1
                # A blank line is layout, not a row.
                blank = content.strip() in (b"", BOM_UTF8)
                if not blank and chunk.add(str(path), line, content, raw):
                    chunk.after = {"file": at["file"], "offset": offset, "line": line}
                    yield chunk
                    chunk = Chunk("json")
            if file.stray():
                chunk.add(str(path), 0, Refused(AFTER_GZIP), 0)
    except BROKEN_GZIP as error:
        broken = str(error) or type(error).__name__
    chunk.after = {"file": at["file"] + 1, "offset": 0, "line": 0}
    chunk.ends = str(path)
    chunk.broken = broken
    yield chunk


def _lines(file: _Opened, max_row_bytes: int) -> Iterator[tuple[int, bytes | Refused]]:
    """Yield the length as read and the content of every line.

    Of a line that is too long no more than the limit is held in memory.
    """
    most = max_row_bytes + 1 if max_row_bytes else -1  # its newline
    while content := file.readline(most):
        size = len(content)
        if size <= max_row_bytes or not max_row_bytes or content.endswith(b"\n"):
            yield size, content
            continue
        while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
            size += len(rest)
        yield size + len(rest), too_long(max_row_bytes)


def too_long(max_row_bytes: int) -> Refused:
    """Return the reason to refuse a row above data.max_row_bytes."""
    return Refused(f"longer than data.max_row_bytes = {max_row_bytes}")


class _Opened(io.BufferedReader):
    """A file's content from an offset on, unpacked where its name ends in .gz."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._packed = GzipMembers(path) if path.suffix == ".gz" else None
        super().__init__(self._packed or io.FileIO(path), _BUFFER_BYTES)
        self._path = path
        if self._packed is None:
            self.seek(offset)
            return
        while offset > 0:  # there is no way into the midst of a gzip file but through it
            offset -= len(self.read(min(offset, _BUFFER_BYTES)))

    def stray(self) -> bool:
        """Return whether a few bytes that are no gzip follow; to be asked at the end.

        Raises:
            EOFError: they are too many to be left out as stray ones.
        """
        trailing = self._packed.trailing if self._packed is not None else 0
        if trailing > max(STRAY_BYTES, STRAY_SHARE * self._path.stat().st_size):
            raise EOFError(f"{trailing:,} {AFTER_GZIP}")
        return trailing > 0


def row_text(form: str, content: Any) -> str:
    """Return the text of a row.

    Raises:
        ValueError: there is none to use; the message is the reason.
    """
    if isinstance(content, Refused):
        raise ValueError(content)
    if form == "value":
        return _checked(content)
    try:
        # A byte order mark belongs to the encoding; concatenated files have one at several lines.
        decoded = content.removeprefix(BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(NOT_UTF8) from error
    return _checked(decoded if form == "text" else _text_field(decoded))


def _text_field(line: str) -> Any:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(row, dict) or "text" not in row:
        raise ValueError("no text field")
    return row["text"]


def _checked(text: Any) -> str:
    if text is None:
        raise ValueError("text is null")
    if not isinstance(text, str):
        raise ValueError("text is not a string")
    if not text.strip():
        raise ValueError("text is empty")
    if text.isascii():
        return text
    try:
        text.encode("utf-8")  # an escape such as \ud800 is valid JSON but no character
    except UnicodeEncodeError as error:
        raise ValueError("text has a lone surrogate, not UTF-8") from error
    return text
