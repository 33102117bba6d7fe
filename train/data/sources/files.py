"""Reads files: rows with a `text` field each, or whole texts.

A document is one line's `text` field (.json.gz, .jsonl, .jsonl.gz, .json; C4's own form), or one
whole file (.txt, .txt.gz).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from functools import partial
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
    refuse_shared(training_paths, paths)
    return files_source(paths, config.max_row_bytes)


def refuse_shared(training: Sequence[Path], validation: Sequence[Path]) -> None:
    """Refuse a file of the training text that is validated on too, whatever its names.

    Raises:
        UserError: names the file.
    """
    trained_on = {_file_number(path) for path in training}
    for path in validation:
        if _file_number(path) in trained_on:
            raise UserError(
                f"{path.resolve()} is in data.files and in data.validation_files, or is both in "
                "data.mixture; validation on training text means nothing: take it out of one."
            )


def files_source(paths: Sequence[Path], max_row_bytes: int = 0) -> Source:
    """Return checked files as a source; a file that has several names there is read once.

    Its identity is their absolute paths, sizes and modification times.
    """
    stats = [(path, path.stat()) for path in paths]
    described = [[str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in stats]
    files, notes = _each_once(paths)
    return Source(
        description=str(files[0]) if len(files) == 1 else f"{len(files)} files, {files[0]} first",
        identity=["files", described],
        chunks=partial(file_chunks, files, max_row_bytes),  # what processes can be given
        files=tuple(files),
        notes=notes,
    )


def _each_once(paths: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """Return the files without further names of one, and a line for each name left out."""
    kept: dict[tuple[int, int], Path] = {}
    notes = []
    for path in paths:
        first = kept.setdefault(_file_number(path), path)
        if first is not path:
            notes.append(f"{path} is the same file as {first}; it is read once")
    return list(kept.values()), tuple(notes)


def _file_number(path: Path) -> tuple[int, int]:
    """Return what links, hard or symbolic, and relative paths of one file have in common."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino


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
