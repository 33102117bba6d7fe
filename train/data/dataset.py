"""From a configuration to what the loop reads: prepared folders, training batches, and the fixed
rows of validation.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from train.config import DataConfig, TrainConfig
from train.data.corpus import open_sources
from train.data.memmap import Split, TokenFile, read_meta
from train.data.mixture import whole_shares
from train.data.prepare import prepare, training_documents
from train.data.rows import Labelled, Rows, open_rows
from train.data.sampler import Batches, validation_rows
from train.data.tokenizer import SAMPLE_CHARACTERS, TRAINING, sample_documents, train_on_sample


def prepare_all(
    config: DataConfig, vocab_size: int, report: Callable[[str], None] | None = None
) -> list[Path]:
    """Prepare every source of a configuration, or find it prepared.

    Args:
        config: the data section.
        vocab_size: model.vocab_size.
        report: takes progress lines; None shows them on stderr.

    Returns:
        One folder, or one for each source of data.mixture. They share one tokenizer.

    Raises:
        UserError: anything wrong with the configuration or a corpus that a user can mend.
    """
    if not config.mixture:
        return [prepare(config, vocab_size, report)]
    parts = [_part(config, at) for at in range(len(config.mixture))]
    for part in parts:
        # a missing file of the last source is found before the first is prepared
        open_sources(part)
    if not config.tokenizer:
        tokenizer = str(_joint_tokenizer(config, parts, vocab_size))
        parts = [replace(part, tokenizer=tokenizer) for part in parts]
    return [prepare(part, vocab_size, report) for part in parts]


def open_data(folders: Sequence[Path], config: TrainConfig) -> tuple[Batches, Labelled]:
    """Batches and validation rows of what prepare_all gave.

    Raises:
        UserError: a folder is damaged, or a split has not one row.
    """
    sources = config.data.mixture
    weights = [source.weight for source in sources] or None
    names = [source.name for source in sources] or [""]
    batches = Batches(
        _rows(folders, "train", config.data),
        config.run.seed_of_data,
        config.run.global_batch,
        weights,
        names,
    )
    return batches, validation_rows(
        _rows(folders, "validation", config.data), config.eval.tokens, weights
    )


def data_identity(folders: Sequence[Path], data: DataConfig) -> str:
    """What a checkpoint remembers of the data: it changes when the rows or their order do."""
    fingerprints = [read_meta(folder).fingerprint for folder in folders]
    if not data.mixture:
        return f"{fingerprints[0]} {data.rows}"
    shares = whole_shares([source.weight for source in data.mixture])
    named = zip(data.mixture, shares, fingerprints, strict=True)
    return (
        ", ".join(f"{source.name} {share} {fingerprint}" for source, share, fingerprint in named)
        + f" {data.rows}"
    )


def _rows(folders: Sequence[Path], split: Split, data: DataConfig) -> list[Rows]:
    return [
        open_rows(TokenFile(folder, split), data.sequence_length, data.rows) for folder in folders
    ]


def _part(config: DataConfig, at: int) -> DataConfig:
    source = config.mixture[at]
    return replace(
        config,
        source="files",
        mixture=(),
        files=tuple(source.files),
        validation_files=tuple(source.validation_files),
    )


def _joint_tokenizer(config: DataConfig, parts: list[DataConfig], vocab_size: int) -> Path:
    """One model for all sources, trained on a sample that has each source's share of the
    characters.
    """
    opened = [open_sources(part) for part in parts]
    shares = whole_shares([source.weight for source in config.mixture])
    facts = [
        [
            (training.identity, held_out is None, share)
            for (training, held_out), share in zip(opened, shares, strict=True)
        ],
        [
            vocab_size,
            config.validation_fraction,
            config.max_documents,
            config.max_row_bytes,
            SAMPLE_CHARACTERS,
            TRAINING,
        ],
    ]
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    path = Path(config.directory).expanduser() / f"tokenizer-{name}.model"
    if not path.is_file():
        sample = []
        for part, (training, held_out), share in zip(parts, opened, shares, strict=True):
            documents = training_documents(part, training, held_out is None)
            sample += sample_documents(documents, SAMPLE_CHARACTERS * share // sum(shares))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        train_on_sample(sample, vocab_size, temporary)
        os.replace(temporary, path)
    return path
