"""Text -> token files, once: `python -m train.data.prepare --config train/recipes/NAME.yaml [--section.key value ...]`.

The result is reused by every run with the same text, tokenizer and split; sequence length and seed do not matter to it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from train.config import DataConfig
from train.data.corpus import Source, open_sources
from train.data.memmap import (
    FORMAT_VERSION,
    QUARANTINE_NAME,
    SPLITS,
    TOKENIZER_NAME,
    FolderWriter,
    Meta,
    Split,
    TokenFile,
    dtype_name,
    read_meta,
)
from train.data.progress import Progress
from train.data.quarantine import Quarantine
from train.data.rows import open_rows
from train.data.tokenizer import SAMPLE_CHARACTERS, TRAINING, Tokenizer, check_vocab, load_tokenizer, train_tokenizer
from train.errors import UserError

BATCH_DOCUMENTS = 512
BATCH_CHARACTERS = 2_000_000  # together they bound the memory, short of one huge document


def prepare(config: DataConfig, vocab_size: int, report: Callable[[str], None] | None = None) -> Path:
    """Prepare the corpus of a configuration, or find it prepared.

    Args:
        config: the data section.
        vocab_size: model.vocab_size; the size of a tokenizer trained here, an upper bound for a given one.
        report: takes progress lines; None draws a bar on stderr, or writes lines there if it is no terminal.

    Returns:
        The folder; open it with TokenFile(folder, "train") and TokenFile(folder, "validation").

    Raises:
        UserError: anything wrong with the configuration or the corpus that a user can mend.
    """
    _check_settings(config)
    training, validation = open_sources(config)
    tokenizer = load_tokenizer(config.tokenizer) if config.tokenizer else None
    if tokenizer is not None:
        check_vocab(tokenizer, vocab_size)
    fingerprint = _fingerprint(config, training, validation, tokenizer, vocab_size)
    folder = Path(config.directory).expanduser() / f"{config.source}-{fingerprint}"
    with Progress("Preparing tokens", report, config.max_documents or training.expected) as progress:
        if folder.exists():
            progress.say(f"Using the prepared corpus in {folder}")
        else:
            folder = _Preparation(config, training, validation, folder, fingerprint, progress).run(tokenizer, vocab_size)
    _check_result(folder, config, vocab_size)
    return folder


def _check_settings(config: DataConfig) -> None:
    if not config.validation_files and not 0 < config.validation_fraction <= 0.5:
        raise UserError(f"data.validation_fraction is {config.validation_fraction}; it must be above 0 and at most 0.5.")
    if not 0 <= config.max_bad_fraction <= 1:
        raise UserError(f"data.max_bad_fraction is {config.max_bad_fraction}; it must be between 0 and 1.")
    if config.sequence_length < 2:
        raise UserError(f"data.sequence_length is {config.sequence_length}; a row needs at least 2 tokens to predict one.")
    if config.max_documents < 0:
        raise UserError(f"data.max_documents is {config.max_documents}; use 0 for all or a positive number.")


def _fingerprint(config: DataConfig, training: Source, validation: Source | None, tokenizer: Tokenizer | None, vocab_size: int) -> str:
    """12 hex digits of everything that decides the tokens."""
    facts = {
        "format": FORMAT_VERSION,
        "training": training.identity,
        "validation": validation.identity if validation is not None else "held out",
        "max_documents": config.max_documents,
        # It also cuts c4's own validation split, see _Preparation._documents.
        "validation_fraction": None if config.validation_files else config.validation_fraction,
        "tokenizer": tokenizer.sha256 if tokenizer is not None else [vocab_size, SAMPLE_CHARACTERS, TRAINING],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _check_result(folder: Path, config: DataConfig, vocab_size: int) -> None:
    """What depends on the run rather than on the prepared folder, so it is checked for a reused one too."""
    check_vocab(load_tokenizer(folder / TOKENIZER_NAME), vocab_size)
    for split in SPLITS:
        open_rows(TokenFile(folder, split), config.sequence_length, config.rows)
    meta = read_meta(folder)
    if meta.rows_set_aside > config.max_bad_fraction * meta.rows:
        raise UserError(
            f"{folder}: {meta.rows_set_aside} of {meta.rows} rows of the corpus had to be set aside ({QUARANTINE_NAME} there says why), "
            f"above data.max_bad_fraction {config.max_bad_fraction:.1%}; mend the corpus or raise it."
        )


def is_held_out(index: int, text: str, fraction: float) -> bool:
    """Whether a document belongs to validation, by its text alone, so that copies of one document never fall on both sides.

    Args:
        index: number of the document; number 0 is always held out, so that there is at least one.
        text: the document.
        fraction: share to hold out.
    """
    if index == 0:
        return True
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < fraction * 2**64


class _Preparation:
    """One preparation, from sources to a folder in place."""

    def __init__(
        self, config: DataConfig, training: Source, validation: Source | None, folder: Path, fingerprint: str, progress: Progress
    ) -> None:
        self.config = config
        self.training = training
        self.validation = validation
        self.folder = folder
        self.fingerprint = fingerprint
        self.progress = progress

    def run(self, tokenizer: Tokenizer | None, vocab_size: int) -> Path:
        started = time.monotonic()
        self.progress.say(f"Preparing {self.training.description} into {self.folder}")
        with FolderWriter(self.folder) as writer:
            tokenizer = self._tokenizer(tokenizer, vocab_size, writer.folder / TOKENIZER_NAME)
            check_vocab(tokenizer, vocab_size)
            meta = Meta(
                FORMAT_VERSION,
                dtype_name(tokenizer.size),
                tokenizer.size,
                tokenizer.eos_id,
                tokenizer.sha256,
                self._description(),
                self.fingerprint,
            )
            self._write(writer, tokenizer, meta)
            folder = writer.commit(meta)
        self.progress.say(
            f"Prepared {meta.train.documents:,} documents, {meta.train.tokens:,} tokens for training and {meta.validation.documents:,}, "
            f"{meta.validation.tokens:,} for validation in {time.monotonic() - started:.1f} s"
            + (f"; {meta.rows_set_aside} rows set aside, see {folder / QUARANTINE_NAME}" if meta.rows_set_aside else "")
        )
        return folder

    def _description(self) -> str:
        if self.validation is not None:
            return f"{self.training.description}; validation: {self.validation.description}"
        return f"{self.training.description}; validation: {self.config.validation_fraction:.2%} of the documents held out"

    def _tokenizer(self, given: Tokenizer | None, vocab_size: int, path: Path) -> Tokenizer:
        if given is not None:
            path.write_bytes(given.model_bytes)
            return given
        self.progress.say(f"Training a tokenizer of {vocab_size} pieces")
        counting = Quarantine(None, self.config.max_bad_fraction)
        training_only = (text for split, text in self._documents(counting, training_only=True) if split == "train")
        return train_tokenizer(training_only, vocab_size, path)

    def _documents(self, quarantine: Quarantine, training_only: bool = False) -> Iterator[tuple[Split, str]]:
        """Every document with its split, in a fixed order."""
        taken = 0
        for index, text in enumerate(self.training.documents(quarantine)):
            if self.validation is None and is_held_out(index, text, self.config.validation_fraction):
                yield "validation", text
                continue
            yield "train", text
            taken += 1
            if taken == self.config.max_documents:
                break
        if self.validation is None or training_only:
            return
        documents = self.validation.documents(quarantine)
        if self.config.max_documents and not self.config.validation_files:
            # Of c4's own validation split, a sample of c4 takes a share of its own size, not all 360 000 documents.
            documents = islice(documents, max(1, round(self.config.max_documents * self.config.validation_fraction)))
        for text in documents:
            yield "validation", text

    def _write(self, writer: FolderWriter, tokenizer: Tokenizer, meta: Meta) -> None:
        kept = self.folder.with_name(f"{self.folder.name}.{QUARANTINE_NAME}")
        kept.unlink(missing_ok=True)  # of an earlier attempt
        quarantine = Quarantine(writer.folder / QUARANTINE_NAME, self.config.max_bad_fraction, kept)
        try:
            for batch in _batched(self._documents(quarantine)):
                tokens = 0
                encoded = tokenizer.encode([text for _, text in batch])
                for (split, text), ids in zip(batch, encoded, strict=True):
                    if not ids:
                        continue
                    tokens += writer.append(split, [ids], meta)
                    meta.split(split).bytes += len(text.encode("utf-8"))
                self.progress.advance(len(batch), tokens)
            quarantine.check()
        except UserError:
            quarantine.close()
            if quarantine.set_aside:  # the temporary folder goes; the list of bad rows is what the user needs now
                shutil.copyfile(writer.folder / QUARANTINE_NAME, kept)
            raise
        quarantine.close()
        meta.rows, meta.rows_set_aside = quarantine.rows, quarantine.set_aside


def _batched(documents: Iterator[tuple[Split, str]]) -> Iterator[list[tuple[Split, str]]]:
    batch: list[tuple[Split, str]] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document[1])
        if len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code; a user's mistake is one message, not a traceback."""
    from train.cli import load_config

    try:
        config = load_config(argv, prog="python -m train.data.prepare")
        print(prepare(config.data, config.model.vocab_size))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
