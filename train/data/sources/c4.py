"""Streams allenai/c4 from the Hugging Face hub: one document for each row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from train.config import DataConfig
from train.data.sources.chunks import Chunk, Refused, too_long
from train.data.sources.files import open_validation
from train.data.sources.source import Source
from train.errors import UserError

REVISION: str | None = None  # a commit of the dataset would pin it; None takes the newest


def open_source(config: DataConfig) -> tuple[Source, Source | None]:
    """Return C4's training split, and its own validation split where no files are named for it."""
    limit = config.max_row_bytes
    validation = open_validation(config) or c4_source("validation", limit)
    return c4_source("train", limit), validation


def c4_source(split: str, max_row_bytes: int = 0) -> Source:
    """Return English C4 as a source.

    Args:
        split: train or validation.
        max_row_bytes: longer texts are refused; 0 sets no limit.
    """
    pinned = f"@{REVISION}" if REVISION else ""
    return Source(
        description=f"allenai/c4 en {split}{pinned}",
        identity=["c4", "en", split, REVISION],
        chunks=lambda start: _chunks(split, max_row_bytes, start),
    )


def _chunks(split: str, max_row_bytes: int, start: dict[str, Any] | None) -> Iterator[Chunk]:
    """Stream the split from a chunk's `after` on.

    Raises:
        UserError: `datasets` is missing, or the hub cannot be read.
    """
    try:
        from datasets import load_dataset  # only preparation from the hub needs it
    except ImportError as error:
        raise UserError(
            "Streaming allenai/c4 needs the datasets package; install it or set data.source to "
            "files."
        ) from error
    name = f"allenai/c4 en/{split}"
    try:
        dataset = load_dataset("allenai/c4", "en", split=split, streaming=True, revision=REVISION)
        number, rows = _rows_from(dataset, start)
        chunk = Chunk("value")
        while (row := next(rows, None)) is not None:
            number += 1
            content, size = _content(row, max_row_bytes)
            if chunk.add(name, number, content, size):
                chunk.after = _position(dataset, number)
                yield chunk
                chunk = Chunk("value")
        chunk.after = _position(dataset, number)
    except (UserError, GeneratorExit):
        raise
    # The hub's clients raise dozens of unrelated types when a network is missing.
    except Exception as error:
        raise UserError(
            f"{name} cannot be read from the hub ({type(error).__name__}: {error}). Check the "
            "network and HF_ENDPOINT, or download its .json.gz files, set data.source to files and "
            "name them in data.files. The same command again goes on from what was prepared."
        ) from error
    yield chunk


def _rows_from(dataset: Any, start: dict[str, Any] | None) -> tuple[int, Iterator[Any]]:
    """Return how many rows lie before a position, and the rows after it."""
    if start is None:
        return 0, iter(dataset)
    if start["state"] is None:
        return start["rows"], islice(iter(dataset), start["rows"], None)
    dataset.load_state_dict(start["state"])  # finds the shard and reads nothing before it
    return start["rows"], iter(dataset)


def _content(row: dict[str, Any], max_row_bytes: int) -> tuple[str | Refused | None, int]:
    """Return the text of a row, or why it is refused, and the text's size in bytes."""
    text = row.get("text")
    size = len(text.encode("utf-8", "replace")) if isinstance(text, str) else 0
    if 0 < max_row_bytes < size:
        return too_long(max_row_bytes), size
    return text, size


def _position(dataset: Any, number: int) -> dict[str, Any]:
    state = dataset.state_dict() if hasattr(dataset, "state_dict") else None
    return {"rows": number, "state": state}
