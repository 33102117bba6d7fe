"""Opens what a preparation starts from, and names what it makes by a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

from train.config import DataConfig
from train.data.loading.memmap import FORMAT_VERSION, Meta, read_meta
from train.data.preparing.content import FileFacts, HashCache, same_content
from train.data.sources.registry import open_sources
from train.data.sources.source import Source
from train.data.tokenizers.load import AnyTokenizer, check_vocab, load_tokenizer
from train.data.tokenizers.sentencepiece import SAMPLE_CHARACTERS, TRAINING
from train.errors import UserError


class Inputs(NamedTuple):
    """What a preparation starts from.

    Args:
        training: the training source.
        validation: the validation source; None holds documents out of the first.
        tokenizer: the one that data.tokenizer names; None trains one.
        settings: 12 hex digits of everything that decides the tokens but the sources.
        fingerprint: 12 hex digits of the same with the sources, files by path and time.
    """

    training: Source
    validation: Source | None
    tokenizer: AnyTokenizer | None
    settings: str
    fingerprint: str

    def by_content(self, training: list[FileFacts], validation: list[FileFacts]) -> dict[str, Any]:
        """Return what Meta.inputs keeps, given what was read; empty where it tells nothing."""
        missing = not training or (self.validation is not None and not validation)
        if missing or not self.known_by_content():
            return {}
        return {
            "settings": self.settings,
            "training": [astuple(facts) for facts in training],
            "validation": [astuple(facts) for facts in validation],
        }

    def known_by_content(self) -> bool:
        """Return whether all of the text comes from files."""
        validated = self.validation is None or self.validation.files
        return bool(self.training.files and validated)


def open_inputs(config: DataConfig, vocab_size: int) -> Inputs:
    """Open the sources and the tokenizer of a configuration without a mixture.

    Raises:
        UserError: a setting, a file or the tokenizer cannot be used.
    """
    training, validation = open_sources(config)
    tokenizer = load_tokenizer(config.tokenizer) if config.tokenizer else None
    if tokenizer is not None:
        check_vocab(tokenizer, vocab_size)
    facts = _facts(config, training, validation, tokenizer, vocab_size)
    of_sources = {"training": "", "validation": validation is not None}
    return Inputs(training, validation, tokenizer, _digits({**facts, **of_sources}), _digits(facts))


def prepared_folder(
    config: DataConfig, inputs: Inputs, say: Callable[[str], None], writable: bool = True
) -> Path:
    """Return the folder that holds, or will hold, what is made of these inputs.

    Files at other paths or times are looked for by their content.

    Args:
        say: takes lines for people.
        writable: whether hashes made on the way may be kept in data.directory.
    """
    directory = Path(config.directory).expanduser()
    folder = directory / f"{config.source}-{inputs.fingerprint}"
    if folder.exists() or not inputs.known_by_content():
        return folder
    cache = HashCache(directory, writable)
    for other in sorted(directory.glob(f"{config.source}-*")):
        try:
            meta = read_meta(other)
        except UserError:
            continue  # a folder of something else
        if _made_of(meta, config, inputs, cache, say):
            say(f"The files are those of {other}, by content")
            return other
    return folder


def _made_of(
    meta: Meta,
    config: DataConfig,
    inputs: Inputs,
    cache: HashCache,
    say: Callable[[str], None],
) -> bool:
    """Return whether a prepared folder is what these inputs would give."""
    if meta.inputs.get("settings") != inputs.settings:
        return False
    training = [FileFacts(*facts) for facts in meta.inputs["training"]]
    validation = [FileFacts(*facts) for facts in meta.inputs["validation"]]
    files = inputs.training.files
    if 0 < config.max_documents == meta.train.documents:
        files = files[: len(training)]  # those after them were not read
    validated = inputs.validation.files if inputs.validation is not None else ()
    return same_content([*files, *validated], [*training, *validation], cache, say)


def _facts(
    config: DataConfig,
    training: Source,
    validation: Source | None,
    tokenizer: AnyTokenizer | None,
    vocab_size: int,
) -> dict[str, Any]:
    """Return everything that decides the tokens."""
    vocabulary: str | list[Any] = [vocab_size, SAMPLE_CHARACTERS, TRAINING]
    if tokenizer is not None:
        vocabulary = tokenizer.sha256
    return {
        "format": FORMAT_VERSION,
        "training": training.identity,
        "validation": validation.identity if validation is not None else "held out",
        "max_documents": config.max_documents,
        "max_row_bytes": config.max_row_bytes,
        # It also cuts c4's own validation split, see _Preparation._stages.
        "validation_fraction": None if config.validation_files else config.validation_fraction,
        "tokenizer": vocabulary,
    }


def _digits(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
