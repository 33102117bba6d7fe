"""Corpora: the running Python's library, files, or allenai/c4 streamed from the hub, each as chunks
of rows in a fixed order.

A document is one source file (stdlib), one line's `text` field (.json.gz, .jsonl, .jsonl.gz, .json;
C4's own form), or one whole file (.txt, .txt.gz).
"""

from __future__ import annotations

import glob
import os
import platform
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from train.config import DataConfig
from train.data.sources.chunks import ROW_SUFFIXES, Chunk, file_chunks, row_text, too_long
from train.data.sources.quarantine import Quarantine, no_documents
from train.errors import UserError

TEXT_SUFFIXES = (".txt", ".txt.gz")
GZIP_MAGIC = b"\x1f\x8b"
# Third-party packages are not the library; tests are repetitive and partly broken on purpose.
SKIPPED_FOLDERS = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
)


@dataclass(frozen=True)
class Source:
    """A corpus that can be read more than once.

    Args:
        description: what it is, for people.
        identity: JSON-able facts that change when the documents do.
        chunks: starts a pass at a chunk's `after`, or at the beginning for None.
        expected: number of documents where it is known beforehand, else 0.
    """

    description: str
    identity: Any
    chunks: Callable[[dict[str, Any] | None], Iterator[Chunk]]
    expected: int = 0

    def documents(self, quarantine: Quarantine) -> Iterator[str]:
        """Every usable text; unusable rows go to the quarantine.

        Raises UserError at a file that has none.
        """
        good = before = 0
        for chunk in self.chunks(None):
            if chunk.begins:
                good = 0
                before = quarantine.set_aside
            for file, line, content in chunk.rows:
                try:
                    text = row_text(chunk.form, content)
                except ValueError as error:
                    quarantine.reject(file, line, str(error))
                    continue
                quarantine.accept()
                good += 1
                yield text
            if chunk.ends and not chunk.broken and not good:
                raise no_documents(
                    chunk.ends, quarantine.set_aside - before, quarantine.last_reason
                )


def open_sources(config: DataConfig) -> tuple[Source, Source | None]:
    """The training source and the validation source; None means: hold documents out of the first.

    Runs the cheap checks of every file (present, not empty, form known) before anything is read.

    Raises:
        UserError: a path is missing, a glob matches nothing, a file is empty or of unknown form, or
            is in both splits.
    """
    if config.source == "files":
        if not config.files:
            raise UserError(
                "data.source is files but data.files is empty; name at least one path or glob "
                "there."
            )
        training_paths = expand(config.files, "data.files")
    else:
        training_paths = []
    validation = None
    if config.validation_files:
        validation_paths = expand(config.validation_files, "data.validation_files")
        shared = {path.resolve() for path in training_paths} & {
            path.resolve() for path in validation_paths
        }
        if shared:
            raise UserError(
                f"{min(shared)} is in data.files and in data.validation_files; validation on "
                "training text means nothing: "
                "take it out of one of them."
            )
        validation = files_source(validation_paths, config.max_row_bytes)
    if config.source == "files":
        return files_source(training_paths, config.max_row_bytes), validation
    if config.source == "stdlib":
        return stdlib_source(), validation
    limit = config.max_row_bytes
    return c4_source("train", max_row_bytes=limit), validation or c4_source(
        "validation", max_row_bytes=limit
    )


# -- the running Python's own library
# -------------------------------------------------------------------------------------------------


def stdlib_paths() -> list[Path]:
    """Source files of the running Python's library, sorted, without tests, third-party packages and
    empty files.
    """
    root = sysconfig.get_path("stdlib")
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    # Empty __init__.py files are normal here, not bad rows.
    return sorted(path for path in found if path.stat().st_size > 0)


def stdlib_source() -> Source:
    """The running Python's library as a source; its identity is the Python version and the files'
    names and sizes.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = stdlib_paths()
    if not paths:
        raise UserError(
            f"This Python has no library sources under {root}; set data.source to files and name "
            "text in data.files."
        )
    version = f"{platform.python_implementation()} {platform.python_version()}"
    # Times are left out on purpose: the same Python in another container is the same corpus.
    sizes = [[path.relative_to(root).as_posix(), path.stat().st_size] for path in paths]
    description = f"standard library of {version}"
    return Source(
        description,
        ["stdlib", version, sizes],
        lambda start: file_chunks(paths, 0, start),
        len(paths),
    )


# -- files
# -------------------------------------------------------------------------------------------------


def expand(patterns: tuple[str, ...], key: str) -> list[Path]:
    """Files named by paths and globs, each once, in the order of the patterns and sorted within a
    glob.

    Args:
        patterns: paths or globs (`**` recurses); a path that exists is never read as a glob.
        key: the configuration key, for messages.

    Raises:
        UserError: nothing there, an empty file, a folder, an unknown form, or a .gz that is not
            gzip.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        pattern = os.path.expanduser(pattern)
        if os.path.exists(pattern):
            matches = [pattern]
        elif glob.has_magic(pattern):
            matches = sorted(
                match for match in glob.glob(pattern, recursive=True) if os.path.isfile(match)
            )
            if not matches:
                raise UserError(
                    f"{key}: no file matches {pattern!r} (from {os.getcwd()}); correct the pattern "
                    "or get the corpus."
                )
        else:
            raise UserError(
                f"{key}: {pattern} does not exist (from {os.getcwd()}); correct the path or get "
                "the corpus."
            )
        for match in matches:
            _check_cheaply(Path(match), key)
            paths[Path(match)] = None
    return list(paths)


def _check_cheaply(path: Path, key: str) -> None:
    if path.is_dir():
        raise UserError(
            f"{key}: {path} is a folder; name the files in it, for example {path}/*.json.gz."
        )
    if not path.name.endswith(ROW_SUFFIXES + TEXT_SUFFIXES):
        raise UserError(
            f"{key}: {path} has no known ending; use one of "
            f"{', '.join(ROW_SUFFIXES + TEXT_SUFFIXES)}."
        )
    if path.stat().st_size == 0:
        raise UserError(f"{key}: {path} is empty (0 bytes); get it again or take it out of {key}.")
    try:
        with open(path, "rb") as file:
            start = file.read(2)
    except OSError as error:
        raise UserError(
            f"{key}: {path} cannot be read ({error.strerror}); mend its permissions or take it out "
            f"of {key}."
        ) from error
    if path.suffix == ".gz" and start != GZIP_MAGIC:
        raise UserError(
            f"{key}: {path} is not gzip although its name ends in .gz; get it again or rename it."
        )


def files_source(paths: list[Path], max_row_bytes: int = 0) -> Source:
    """Checked files as a source; its identity is their absolute paths, sizes and modification
    times.
    """
    stats = [(path, path.stat()) for path in paths]
    identity = [
        "files",
        [[str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in stats],
    ]
    shown = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files, {paths[0]} first"
    return Source(shown, identity, lambda start: file_chunks(paths, max_row_bytes, start))


# -- allenai/c4
# -------------------------------------------------------------------------------------------------


def c4_source(split: str, revision: str | None = None, max_row_bytes: int = 0) -> Source:
    """English C4 from the hub.

    Args:
        split: train or validation.
        revision: commit or tag of the dataset that pins it; None takes the newest.
        max_row_bytes: longer texts are refused; 0 sets no limit.
    """
    pinned = f"@{revision}" if revision else ""
    return Source(
        f"allenai/c4 en {split}{pinned}",
        ["c4", "en", split, revision],
        lambda start: c4_chunks(split, revision, max_row_bytes, start),
    )


def c4_chunks(
    split: str, revision: str | None, max_row_bytes: int, start: dict[str, Any] | None
) -> Iterator[Chunk]:
    """Stream allenai/c4 `en`.

    Raises UserError when `datasets` is missing or the hub cannot be read.
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
        dataset = load_dataset("allenai/c4", "en", split=split, streaming=True, revision=revision)
        number, rows = _c4_rows(dataset, start)
        chunk = Chunk("value")
        while (row := next(rows, None)) is not None:
            number += 1
            text = row.get("text")
            size = len(text.encode("utf-8", "replace")) if isinstance(text, str) else 0
            if chunk.add(
                name, number, too_long(max_row_bytes) if 0 < max_row_bytes < size else text, size
            ):
                chunk.after = _c4_position(dataset, number)
                yield chunk
                chunk = Chunk("value")
        chunk.after = _c4_position(dataset, number)
    except (UserError, GeneratorExit):
        raise
    # the hub's clients raise dozens of unrelated types when a network is missing
    except Exception as error:
        raise UserError(
            f"{name} cannot be read from the hub ({type(error).__name__}: {error}). Check the "
            "network and HF_ENDPOINT, or download its "
            ".json.gz files, set data.source to files and name them in data.files. The same "
            "command again goes on from what was prepared."
        ) from error
    yield chunk


def _c4_rows(dataset: Any, start: dict[str, Any] | None) -> tuple[int, Iterator[Any]]:
    """Rows from a position on, and how many there were before it."""
    if start is None:
        return 0, iter(dataset)
    if start["state"] is None:
        return start["rows"], islice(iter(dataset), start["rows"], None)
    dataset.load_state_dict(start["state"])  # finds the shard and reads nothing before it
    return start["rows"], iter(dataset)


def _c4_position(dataset: Any, number: int) -> dict[str, Any]:
    return {
        "rows": number,
        "state": dataset.state_dict() if hasattr(dataset, "state_dict") else None,
    }
