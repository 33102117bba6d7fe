"""Reads allenai/c4: streamed from the Hugging Face hub, or from a copy of its repository here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from train.config import DataConfig
from train.data.sources.chunks import Chunk, Refused, too_long
from train.data.sources.files import files_source, open_validation
from train.data.sources.retries import with_retries
from train.data.sources.source import Source
from train.errors import UserError

OFFLINE = "HF_HUB_OFFLINE"  # the hub's own variable: nothing is to be asked of a network
_TRUE = ("1", "on", "yes", "true")


def open_source(config: DataConfig) -> tuple[Source, Source | None]:
    """Return C4's training split, and its own validation split where no files are named for it.

    Raises:
        UserError: a copy was asked for that is not here, or a validation file cannot be used.
    """
    training = _open(config, "train")
    return training, open_validation(config, training.files) or _open(config, "validation")


def _open(config: DataConfig, split: str) -> Source:
    folder = _copy_here(config)
    if folder is None:
        return c4_source(split, config.max_row_bytes, config.repository, config.revision)
    return _copied_source(folder, split, config)


def c4_source(
    split: str, max_row_bytes: int = 0, repository: str = "allenai/c4", revision: str = ""
) -> Source:
    """Return English C4 of the hub as a source.

    Args:
        split: train or validation.
        max_row_bytes: longer texts are refused; 0 sets no limit.
        repository: its name on the hub.
        revision: a commit or tag; empty takes the newest.
    """
    pinned = f"@{revision}" if revision else ""
    other = [repository] if repository != DataConfig.repository else []
    name = f"{repository} en/{split}"

    def chunks(start: dict[str, Any] | None) -> Iterator[Chunk]:
        def read(position: dict[str, Any] | None) -> Iterator[Chunk]:
            return _chunks(_load(repository, split, revision), name, max_row_bytes, position)

        return with_retries(read, start, name)

    return Source(
        description=f"{repository} en {split}{pinned}",
        identity=["c4", "en", split, revision or None, *other],
        chunks=chunks,
    )


def _load(repository: str, split: str, revision: str) -> Any:
    """Open the split for streaming.

    Raises:
        UserError: `datasets` is missing.
    """
    try:
        from datasets import load_dataset  # only preparation from the hub needs it
    except ImportError as error:
        raise UserError(
            "Streaming allenai/c4 needs the datasets package; install it or set data.source to "
            "files."
        ) from error
    return load_dataset(repository, "en", split=split, streaming=True, revision=revision or None)


def _chunks(
    dataset: Any, name: str, max_row_bytes: int, start: dict[str, Any] | None
) -> Iterator[Chunk]:
    """Stream the split from a chunk's `after` on."""
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


def _copy_here(config: DataConfig) -> Path | None:
    """Return the folder of a copy that is to be read; None streams from the hub.

    Raises:
        UserError: the hub must not be asked, and its cache has no copy.
    """
    folder = Path(config.repository).expanduser()
    if folder.is_dir():
        return folder
    if os.environ.get(OFFLINE, "").lower() not in _TRUE:
        return None
    from huggingface_hub import snapshot_download  # only a copy in the hub's cache needs it

    revision = config.revision or None
    try:
        return Path(
            snapshot_download(
                config.repository, repo_type="dataset", revision=revision, local_files_only=True
            )
        )
    except Exception as error:  # its class depends on the version
        wanted = config.repository + (f" at revision {revision}" if revision else "")
        raise UserError(
            f"data.source: HF_HUB_OFFLINE is set, and the hub's cache has no {wanted} "
            f"({type(error).__name__}). Get it where there is a network, with `hf download "
            f"{config.repository} --repo-type dataset --include 'en/*'`, name the folder of a copy "
            f"in data.repository, or unset HF_HUB_OFFLINE."
        ) from error


def _copied_source(folder: Path, split: str, config: DataConfig) -> Source:
    """Return a split of a copy as a source of its files.

    Raises:
        UserError: it has none of that split.
    """
    paths = sorted(folder.glob(f"en/c4-{split}.*.json.gz"))
    if not paths:
        raise UserError(
            f"data.source: {folder} has no en/c4-{split}.*.json.gz; get allenai/c4 again, with its "
            "folder en, or name other files by data.source files."
        )
    source = files_source(paths, config.max_row_bytes)
    whole = re.search(r"-of-(\d+)\.", paths[0].name)
    if whole is None or int(whole[1]) == len(paths):
        return source
    note = f"{folder}: {len(paths)} of the {int(whole[1]):,} files of the {split} split are there"
    return replace(source, notes=(*source.notes, note))
