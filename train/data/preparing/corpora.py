"""Prepares every corpus of a configuration: one, or the sources of a mixture.

The sources of a mixture share one tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from train.config import DataConfig
from train.config.shares import whole_shares
from train.data.preparing.prepare import find_prepared, prepare, training_documents
from train.data.preparing.work_folder import documents_recorded
from train.data.sources.files import refuse_shared
from train.data.sources.registry import open_sources
from train.data.sources.source import Source
from train.data.tokenizers.sentencepiece import (
    SAMPLE_CHARACTERS,
    TRAINING,
    sample_documents,
    train_on_sample,
)
from train.errors import UserError

_Opened = tuple[Source, Source | None]


@dataclass(frozen=True)
class PreparedCorpus:
    """The place of a corpus that is prepared, or will be.

    Args:
        name: name of the mixture's source; empty for the only one.
        folder: its prepared folder; None where a tokenizer has yet to be trained, on which the
            folder's name depends.
        ready: whether the folder is there.
    """

    name: str
    folder: Path | None
    ready: bool


def prepare_all(
    config: DataConfig, vocab_size: int, report: Callable[[str], None] | None = None
) -> list[Path]:
    """Prepare every corpus of a configuration, or find it prepared.

    Args:
        config: the data section.
        vocab_size: pieces of the model's vocabulary.
        report: takes progress lines; None shows them on stderr.

    Returns:
        One folder, or one for each source of data.mixture.

    Raises:
        UserError: anything wrong with the configuration or a corpus that a user can mend.
    """
    if not config.mixture:
        return [prepare(config, vocab_size, report)]
    parts = _parts(config)
    opened = _open(parts)
    if not config.tokenizer:
        path = _joint_tokenizer_path(config, opened, vocab_size)
        if not path.is_file():
            _train_joint_tokenizer(config, parts, opened, vocab_size, path)
        parts = [replace(part, tokenizer=str(path)) for part in parts]
    return [prepare(part, vocab_size, report) for part in parts]


def find_all(config: DataConfig, vocab_size: int) -> list[PreparedCorpus]:
    """Return the corpora that `prepare_all` makes or reuses, in its order; write nothing.

    Raises:
        UserError: as `prepare_all`, of what can be seen without reading the corpora.
    """
    if not config.mixture:
        return [PreparedCorpus("", *find_prepared(config, vocab_size))]
    parts = _parts(config)
    opened = _open(parts)
    names = [source.name for source in config.mixture]
    if not config.tokenizer:
        path = _joint_tokenizer_path(config, opened, vocab_size)
        if not path.is_file():
            return [PreparedCorpus(name, None, False) for name in names]
        parts = [replace(part, tokenizer=str(path)) for part in parts]
    return [
        PreparedCorpus(name, *find_prepared(part, vocab_size))
        for name, part in zip(names, parts, strict=True)
    ]


def documents_prepared(config: DataConfig, vocab_size: int) -> int:
    """Return how many documents are ready or would be gone on from: the progress of preparation."""
    try:
        corpora = find_all(config, vocab_size)
    except (UserError, OSError):
        return 0
    return sum(documents_recorded(corpus.folder) for corpus in corpora if corpus.folder)


def _parts(config: DataConfig) -> list[DataConfig]:
    """Return a configuration of its own for each source of the mixture."""
    return [
        replace(
            config,
            source="files",
            mixture=(),
            files=tuple(source.files),
            validation_files=tuple(source.validation_files),
        )
        for source in config.mixture
    ]


def _open(parts: list[DataConfig]) -> list[_Opened]:
    """Open the sources of the mixture.

    Raises:
        UserError: a source cannot be used, or is validated on what another is trained on.
    """
    opened = [open_sources(part) for part in parts]
    trained_on = [path for training, _ in opened for path in training.files]
    for _, validation in opened:
        refuse_shared(trained_on, validation.files if validation is not None else ())
    return opened


def _joint_tokenizer_path(config: DataConfig, opened: list[_Opened], vocab_size: int) -> Path:
    """Return where the tokenizer of a mixture is kept; its name says what it was trained on."""
    shares = whole_shares([source.weight for source in config.mixture])
    sources = [
        (training.identity, validation is None, share)
        for (training, validation), share in zip(opened, shares, strict=True)
    ]
    settings = [
        vocab_size,
        config.validation_fraction,
        config.max_documents,
        config.max_row_bytes,
        SAMPLE_CHARACTERS,
        TRAINING,
    ]
    facts = [sources, settings]
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return Path(config.directory).expanduser() / f"tokenizer-{name}.model"


def _train_joint_tokenizer(
    config: DataConfig,
    parts: list[DataConfig],
    opened: list[_Opened],
    vocab_size: int,
    path: Path,
) -> None:
    """Train one model on a sample that has each source's share of the characters."""
    shares = whole_shares([source.weight for source in config.mixture])
    sample = []
    for part, (training, validation), share in zip(parts, opened, shares, strict=True):
        documents = training_documents(part, training, validation is None)
        sample += sample_documents(documents, SAMPLE_CHARACTERS * share // sum(shares))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    train_on_sample(sample, vocab_size, temporary)
    os.replace(temporary, path)
