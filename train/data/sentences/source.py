"""Finds the rows that sentences.source stands for, and what they are known by."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from train.config import TrainConfig
from train.config.sentences import GLUE, SentencesConfig
from train.data.sentences import stdlib_sentences
from train.data.sentences.datasets_sentences import (
    glue_files,
    glue_rows,
    is_saved,
    saved_files,
    saved_rows,
)
from train.data.sentences.rows import Columns, RawRow
from train.data.sentences.table_files import check_file, read_file
from train.errors import UserError
from train.system.files import sha256_of

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")


@dataclass(frozen=True)
class Source:
    """Labelled sentences that can be read more than once.

    Args:
        description: what it is, for people.
        identity: JSON-able facts that change when the rows do.
        columns: what its columns mean.
        rows: starts a pass over a split.
    """

    description: str
    identity: Any
    columns: Columns
    rows: Callable[[Split], Iterator[RawRow]]


def open_source(config: TrainConfig) -> Source:
    """Return the run's sentences.

    Raises:
        UserError: one of its files cannot be used, or is in both splits.
    """
    sentences = config.sentences
    if sentences.source.startswith(GLUE):
        return _glue(sentences)
    if sentences.source == "stdlib":
        return _stdlib()
    regression = config.task == "text_regression"
    names = sentences.label_names
    if not regression and not names:
        names = tuple(map(str, range(config.model.num_labels)))
    return _files(sentences, Columns(sentences.text, sentences.label, names, regression))


def _glue(sentences: SentencesConfig) -> Source:
    task = sentences.glue_task
    assert task is not None
    columns = Columns(task.text, "label", task.label_names, regression=not task.label_names)
    splits = {"train": "train", "validation": task.validation}
    paths = [path for split in splits.values() for path in glue_files(sentences, split)]
    facts = _hashes(paths) or [[sentences.repository, sentences.revision]]
    name = sentences.source.removeprefix(GLUE)
    return Source(
        f"{name} of GLUE, {sentences.repository}",
        ["glue", name, facts],
        columns,
        lambda split: glue_rows(sentences, splits[split], columns),
    )


def _stdlib() -> Source:
    columns = Columns(
        (stdlib_sentences.TEXT,), stdlib_sentences.LABEL, stdlib_sentences.PACKAGES, False
    )
    version = stdlib_sentences.version()
    return Source(
        f"docstrings of {version}", ["stdlib", version], columns, stdlib_sentences.stdlib_rows
    )


def _files(sentences: SentencesConfig, columns: Columns) -> Source:
    paths = {
        "train": _expand(sentences.train, "sentences.train"),
        "validation": _expand(sentences.validation, "sentences.validation"),
    }
    both = {path.resolve() for path in paths["train"]} & {p.resolve() for p in paths["validation"]}
    if both:
        raise UserError(
            f"{min(both)} is in sentences.train and in sentences.validation; validation on "
            "sentences that were trained on means nothing: take it out of one"
        )

    def rows(split: Split) -> Iterator[RawRow]:
        for path in paths[split]:
            yield from saved_rows(path, columns) if path.is_dir() else read_file(path, columns)

    facts = [_hashes(_parts(paths[split])) for split in SPLITS]
    return Source(_words(paths["train"]), ["files", facts], columns, rows)


def _expand(patterns: Iterable[str], key: str) -> list[Path]:
    """Return the files and saved folders named by paths and globs, each once, in their order."""
    paths: dict[Path, None] = {}
    for pattern in map(os.path.expanduser, patterns):
        named = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
        if not named:
            raise UserError(f"{key}: {pattern} does not exist (from {os.getcwd()}); correct it")
        for path in map(Path, named):
            if not path.is_dir():
                check_file(path, key)
            elif not is_saved(path):
                raise UserError(
                    f"{key}: {path} is a folder, and none that datasets saved; name the files in it"
                )
            paths[path] = None
    return list(paths)


def _parts(paths: Iterable[Path]) -> list[Path]:
    return [part for path in paths for part in (saved_files(path) if path.is_dir() else [path])]


def _hashes(paths: Iterable[Path]) -> list[list[str]]:
    return [[path.suffix, sha256_of(path)] for path in paths]


def _words(paths: list[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{len(paths)} files, {paths[0]} first"
