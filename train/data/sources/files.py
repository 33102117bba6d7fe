"""Reads files: rows with a `text` field each, or whole texts.

A document is one line's `text` field (.json.gz, .jsonl, .jsonl.gz, .json; C4's own form), or one
whole file (.txt, .txt.gz).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from train.config import DataConfig
from train.data.sources.chunks import ROW_SUFFIXES, file_chunks
from train.data.sources.source import Source
from train.errors import UserError

TEXT_SUFFIXES = (".txt", ".txt.gz")
GZIP_MAGIC = b"\x1f\x8b"


def open_source(config: DataConfig) -> tuple[Source, Source | None]:
    """Return data.files for training, and data.validation_files where there are any.

    Raises:
        UserError: no file is named, one cannot be used, or one is in both splits.
    """
    if not config.files:
        raise UserError(
            "data.source is files but data.files is empty; name at least one path or glob there."
        )
    paths = expand(config.files, "data.files")
    validation = open_validation(config, paths)
    return files_source(paths, config.max_row_bytes), validation


def open_validation(config: DataConfig, training_paths: Sequence[Path] = ()) -> Source | None:
    """Return data.validation_files as a source; None where none are named.

    Args:
        training_paths: files of the training source, which must not be among them.

    Raises:
        UserError: one cannot be used, or is a training file too.
    """
    if not config.validation_files:
        return None
    paths = expand(config.validation_files, "data.validation_files")
    shared = {path.resolve() for path in training_paths} & {path.resolve() for path in paths}
    if shared:
        raise UserError(
            f"{min(shared)} is in data.files and in data.validation_files; validation on training "
            "text means nothing: take it out of one of them."
        )
    return files_source(paths, config.max_row_bytes)


def files_source(paths: list[Path], max_row_bytes: int = 0) -> Source:
    """Return checked files as a source.

    Its identity is their absolute paths, sizes and modification times.
    """
    stats = [(path, path.stat()) for path in paths]
    described = [[str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in stats]
    return Source(
        description=str(paths[0]) if len(paths) == 1 else f"{len(paths)} files, {paths[0]} first",
        identity=["files", described],
        chunks=lambda start: file_chunks(paths, max_row_bytes, start),
    )


def expand(patterns: tuple[str, ...], key: str) -> list[Path]:
    """Return the files named by paths and globs, each once.

    They come in the order of the patterns, and sorted within a glob.

    Args:
        patterns: paths or globs (`**` recurses); a path that exists is never read as a glob.
        key: the configuration key, for messages.

    Raises:
        UserError: nothing there, an empty file, a folder, an unknown form, or a .gz that is not
            gzip.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        for path in _matches(os.path.expanduser(pattern), key):
            _check_cheaply(path, key)
            paths[path] = None
    return list(paths)


def _matches(pattern: str, key: str) -> list[Path]:
    if os.path.exists(pattern):
        return [Path(pattern)]
    if not glob.has_magic(pattern):
        raise UserError(
            f"{key}: {pattern} does not exist (from {os.getcwd()}); correct the path or get the "
            "corpus."
        )
    names = sorted(name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))
    if not names:
        raise UserError(
            f"{key}: no file matches {pattern!r} (from {os.getcwd()}); correct the pattern or get "
            "the corpus."
        )
    return [Path(name) for name in names]


def _check_cheaply(path: Path, key: str) -> None:
    if path.is_dir():
        raise UserError(
            f"{key}: {path} is a folder; name the files in it, for example {path}/*.json.gz."
        )
    if not path.name.endswith(ROW_SUFFIXES + TEXT_SUFFIXES):
        endings = ", ".join(ROW_SUFFIXES + TEXT_SUFFIXES)
        raise UserError(f"{key}: {path} has no known ending; use one of {endings}.")
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
