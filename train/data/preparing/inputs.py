"""Opens what a preparation starts from, and names what it makes by a fingerprint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from train.config import DataConfig
from train.data.loading.memmap import FORMAT_VERSION
from train.data.sources.registry import open_sources
from train.data.sources.source import Source
from train.data.tokenizers.load import AnyTokenizer, check_vocab, load_tokenizer
from train.data.tokenizers.sentencepiece import SAMPLE_CHARACTERS, TRAINING


class Inputs(NamedTuple):
    """What a preparation starts from.

    Args:
        training: the training source.
        validation: the validation source; None holds documents out of the first.
        tokenizer: the one that data.tokenizer names; None trains one.
        fingerprint: 12 hex digits of everything that decides the tokens.
    """

    training: Source
    validation: Source | None
    tokenizer: AnyTokenizer | None
    fingerprint: str


def open_inputs(config: DataConfig, vocab_size: int) -> Inputs:
    """Open the sources and the tokenizer of a configuration without a mixture.

    Raises:
        UserError: a setting, a file or the tokenizer cannot be used.
    """
    training, validation = open_sources(config)
    tokenizer = load_tokenizer(config.tokenizer) if config.tokenizer else None
    if tokenizer is not None:
        check_vocab(tokenizer, vocab_size)
    fingerprint = _fingerprint(config, training, validation, tokenizer, vocab_size)
    return Inputs(training, validation, tokenizer, fingerprint)


def prepared_folder(config: DataConfig, inputs: Inputs) -> Path:
    """Return the folder that holds, or will hold, what is made of these inputs."""
    return Path(config.directory).expanduser() / f"{config.source}-{inputs.fingerprint}"


def _fingerprint(
    config: DataConfig,
    training: Source,
    validation: Source | None,
    tokenizer: AnyTokenizer | None,
    vocab_size: int,
) -> str:
    """Return 12 hex digits of everything that decides the tokens."""
    vocabulary: str | list[Any] = [vocab_size, SAMPLE_CHARACTERS, TRAINING]
    if tokenizer is not None:
        vocabulary = tokenizer.sha256
    facts = {
        "format": FORMAT_VERSION,
        "training": training.identity,
        "validation": validation.identity if validation is not None else "held out",
        "max_documents": config.max_documents,
        "max_row_bytes": config.max_row_bytes,
        # It also cuts c4's own validation split, see _Preparation._stages.
        "validation_fraction": None if config.validation_files else config.validation_fraction,
        "tokenizer": vocabulary,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
