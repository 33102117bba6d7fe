"""Reads and encodes several files at once, and hands on what they give in their order.

One process reads a file and encodes it, so that there are as many readers as processes, and no text
passes between them. What a file gives waits in a spool on the disk until its turn comes.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from train.data.preparing.encode import Encoded, Piece
from train.data.preparing.work_folder import SPOOL
from train.data.sources.chunks import ROW_SUFFIXES, Chunk
from train.data.sources.source import Source

Results: TypeAlias = Iterator[tuple[Chunk, Encoded]]
# A kill costs the files in work, and their tokens wait on the disk: larger ones are not worth it.
LARGEST_FILE = 1 << 30
WORTH_LANES = 100_000_000  # bytes of text files; less is done before processes have started


def can_have_lanes(source: Source, start: dict[str, Any] | None) -> bool:
    """Return whether what is left of a source is several files of rows, of some size in all."""
    left = source.files[start["file"] if start else 0 :]
    sizes = [path.stat().st_size for path in left]
    rows = all(path.name.endswith(ROW_SUFFIXES) for path in left)
    return rows and len(left) > 1 and max(sizes) <= LARGEST_FILE and sum(sizes) >= WORTH_LANES


def in_lanes(
    pool: Executor,
    lanes: int,
    encode: Callable[[Iterator[Chunk]], Results],
    source: Source,
    start: dict[str, Any] | None,
    folder: Path,
) -> Results:
    """Yield the chunks of a source of files, without their rows, and their results, in order.

    Args:
        pool: processes that run `encode`.
        lanes: files to work on at once.
        encode: yields the results of chunks; it and the source's `chunks` must pickle.
        start: a chunk's `after`; None starts at the beginning.
        folder: where to leave spools.
    """
    spools = folder / SPOOL
    spools.mkdir()
    waiting: deque[tuple[Path, Future[None]]] = deque()
    try:
        for position in _starts(source, start):
            spool = spools / str(position["file"])
            waiting.append((spool, pool.submit(_fill, spool, encode, source.chunks, position)))
            if len(waiting) > lanes:
                yield from _emptied(*waiting.popleft())
        while waiting:
            yield from _emptied(*waiting.popleft())
    finally:
        shutil.rmtree(spools)  # which also stops those that are still at work


def _starts(source: Source, start: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield where each file that is left begins."""
    first = start or {"file": 0, "offset": 0, "line": 0}
    yield first
    for number in range(first["file"] + 1, len(source.files)):
        yield {"file": number, "offset": 0, "line": 0}


def _fill(
    spool: Path,
    encode: Callable[[Iterator[Chunk]], Results],
    chunks: Callable[[dict[str, Any] | None], Iterator[Chunk]],
    start: dict[str, Any],
) -> None:
    """Encode what is left of one file into a spool; this is a process's job."""
    with spool.open("wb") as file:
        for chunk, encoded in encode(_of_one_file(chunks(start), start["file"])):
            if not spool.exists():
                return  # nobody waits for it any more
            _write(file, chunk, encoded)


def _of_one_file(chunks: Iterator[Chunk], number: int) -> Iterator[Chunk]:
    for chunk in chunks:
        yield chunk
        if chunk.after["file"] > number:
            return


def _emptied(spool: Path, filled: Future[None]) -> Results:
    filled.result()
    with spool.open("rb") as file:
        while file.peek(1):
            yield _read(file)
    spool.unlink()


def _write(file: BinaryIO, chunk: Chunk, encoded: Encoded) -> None:
    """Append a chunk without its rows and its result: a line of JSON, then the pieces' bytes."""
    pieces = encoded.pieces.items()
    head = {
        "chunk": asdict(replace(chunk, rows=[])),
        "rows": encoded.rows,
        "bad": encoded.bad,
        "pieces": {
            split: [len(piece.tokens), len(piece.lengths), piece.bytes] for split, piece in pieces
        },
    }
    file.write(json.dumps(head).encode() + b"\n")
    for _, piece in pieces:
        file.write(piece.tokens)
        file.write(piece.lengths)


def _read(file: BinaryIO) -> tuple[Chunk, Encoded]:
    head = json.loads(file.readline())
    bad = [tuple(row) for row in head["bad"]]
    pieces = {
        split: Piece(file.read(tokens), file.read(lengths), size)
        for split, (tokens, lengths, size) in head["pieces"].items()
    }
    return Chunk(**head["chunk"]), Encoded(head["rows"], bad, pieces)
