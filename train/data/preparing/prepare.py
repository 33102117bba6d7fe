"""Text -> token files, once: `python -m train prepare --config train/recipes/NAME.yaml
[--section.key value ...]`.

The result is reused by every run with the same text, tokenizer and split; sequence length, form of
the rows and seed do not matter to it. A preparation that was killed goes on where it was when the
same one is asked for again, and ends with the same bits, as it does with any number of workers.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from train.config import DataConfig
from train.config.run_folder import TOKENIZER_MODEL
from train.data.loading.memmap import (
    FORMAT_VERSION,
    QUARANTINE_NAME,
    SPLITS,
    Meta,
    TokenFile,
    dtype_name,
    read_meta,
)
from train.data.preparing.encode import is_held_out
from train.data.preparing.ingest import Ingest, Stage
from train.data.preparing.progress import Progress
from train.data.preparing.work_folder import WorkFolder
from train.data.sources.corpus import Source, open_sources
from train.data.sources.quarantine import BadCorpus, Quarantine
from train.data.tokenizers.sentencepiece import (
    SAMPLE_CHARACTERS,
    TRAINING,
    AnyTokenizer,
    check_vocab,
    load_prepared,
    load_tokenizer,
    train_tokenizer,
)
from train.errors import UserError


def prepare(
    config: DataConfig, vocab_size: int, report: Callable[[str], None] | None = None
) -> Path:
    """Prepare the corpus of a configuration without a mixture, or find it prepared.

    Args:
        config: the data section.
        vocab_size: model.vocab_size; the size of a tokenizer trained here, an upper bound for a
            given one.
        report: takes progress lines; None draws a bar on stderr, or writes lines there if it is no
            terminal.

    Returns:
        The folder; open it with TokenFile(folder, "train") and TokenFile(folder, "validation").

    Raises:
        UserError: anything wrong with the configuration or the corpus that a user can mend.
    """
    training, validation, tokenizer, fingerprint = _plan(config, vocab_size)
    folder = _folder(config, fingerprint)
    with Progress(
        "Preparing tokens", report, config.max_documents or training.expected
    ) as progress:
        if folder.exists():
            progress.say(f"Using the prepared corpus in {folder}")
        else:
            _Preparation(config, training, validation, folder, fingerprint, progress).run(
                tokenizer, vocab_size
            )
    _check_result(folder, config, vocab_size)
    return folder


def training_documents(config: DataConfig, training: Source, holds_out: bool) -> Iterator[str]:
    """The documents that a tokenizer may be trained on, in order: never one of validation."""
    taken = 0
    for index, text in enumerate(training.documents(Quarantine(None, config.max_bad_fraction))):
        if holds_out and is_held_out(index == 0, text, config.validation_fraction):
            continue
        yield text
        taken += 1
        if taken == config.max_documents:
            return


def find_prepared(config: DataConfig, vocab_size: int) -> tuple[Path, bool]:
    """The folder that `prepare` makes or reuses, and whether it is there.

    Checks what it can of the sources; writes nothing.

    Raises:
        UserError: as `prepare`.
    """
    folder = _folder(config, _plan(config, vocab_size)[3])
    if folder.exists():
        _check_result(folder, config, vocab_size)
    return folder, folder.exists()


def _plan(
    config: DataConfig, vocab_size: int
) -> tuple[Source, Source | None, AnyTokenizer | None, str]:
    """Training source, validation source, given tokenizer, and the fingerprint of what they make."""
    training, validation = open_sources(config)
    tokenizer = load_tokenizer(config.tokenizer) if config.tokenizer else None
    if tokenizer is not None:
        check_vocab(tokenizer, vocab_size)
    return (
        training,
        validation,
        tokenizer,
        _fingerprint(config, training, validation, tokenizer, vocab_size),
    )


def _folder(config: DataConfig, fingerprint: str) -> Path:
    return Path(config.directory).expanduser() / f"{config.source}-{fingerprint}"


def _fingerprint(
    config: DataConfig,
    training: Source,
    validation: Source | None,
    tokenizer: AnyTokenizer | None,
    vocab_size: int,
) -> str:
    """12 hex digits of everything that decides the tokens."""
    facts = {
        "format": FORMAT_VERSION,
        "training": training.identity,
        "validation": validation.identity if validation is not None else "held out",
        "max_documents": config.max_documents,
        "max_row_bytes": config.max_row_bytes,
        # It also cuts c4's own validation split, see _Preparation._stages.
        "validation_fraction": None if config.validation_files else config.validation_fraction,
        "tokenizer": tokenizer.sha256
        if tokenizer is not None
        else [vocab_size, SAMPLE_CHARACTERS, TRAINING],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _check_result(folder: Path, config: DataConfig, vocab_size: int) -> None:
    """What depends on the run rather than on the prepared folder, so it is checked for a reused one
    too.
    """
    # not above: worker processes load this module and need no torch
    from train.data.loading.rows import open_rows

    check_vocab(load_prepared(folder), vocab_size)
    for split in SPLITS:
        open_rows(TokenFile(folder, split), config.sequence_length, config.rows)
    meta = read_meta(folder)
    if meta.rows_set_aside > config.max_bad_fraction * meta.rows:
        raise UserError(
            f"{folder}: {meta.rows_set_aside} of {meta.rows} rows of the corpus had to be set "
            f"aside ({QUARANTINE_NAME} there says why), "
            f"above data.max_bad_fraction {config.max_bad_fraction:.1%}; mend the corpus or raise "
            "it."
        )


class _Preparation:
    """One preparation, from sources to a folder in place."""

    def __init__(
        self,
        config: DataConfig,
        training: Source,
        validation: Source | None,
        folder: Path,
        fingerprint: str,
        progress: Progress,
    ) -> None:
        self.config = config
        self.training = training
        self.validation = validation
        self.folder = folder
        self.fingerprint = fingerprint
        self.progress = progress
        self.bad_rows = folder.with_name(f"{folder.name}.{QUARANTINE_NAME}")

    def run(self, tokenizer: AnyTokenizer | None, vocab_size: int) -> None:
        started = time.monotonic()
        with WorkFolder(self.folder, self.progress.say) as work:
            if work.finished:
                self.progress.say(
                    f"Using the corpus that another process prepared in {self.folder}"
                )
                return
            self.progress.say(f"Preparing {self.training.description} into {self.folder}")
            try:
                meta = self._write(work, tokenizer, vocab_size)
            except BadCorpus:
                self._keep_bad_rows(work)
                raise
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise UserError(
                    f"data.directory: {self.folder.parent} is full ({error.strerror}); free some "
                    "space, and the same command goes on "
                    "from what was prepared."
                ) from error
        self.progress.say(
            f"Prepared {meta.train.documents:,} documents, {meta.train.tokens:,} tokens for "
            f"training and {meta.validation.documents:,}, "
            f"{meta.validation.tokens:,} for validation in {time.monotonic() - started:.1f} s"
            + (
                f"; {meta.rows_set_aside} rows set aside, see {self.folder / QUARANTINE_NAME}"
                if meta.rows_set_aside
                else ""
            )
        )

    def _write(self, work: WorkFolder, given: AnyTokenizer | None, vocab_size: int) -> Meta:
        tokenizer = self._tokenizer(work.folder, given, vocab_size)
        check_vocab(tokenizer, vocab_size)
        self.bad_rows.unlink(missing_ok=True)  # of an earlier attempt
        quarantine = Quarantine(work.quarantine, self.config.max_bad_fraction, self.bad_rows)
        Ingest(work, tokenizer, quarantine, self.progress, self.config.workers).run(self._stages())
        state = work.state
        meta = Meta(
            FORMAT_VERSION,
            dtype_name(tokenizer.size),
            tokenizer.size,
            tokenizer.eos_id,
            tokenizer.sha256,
            self._description(),
            self.fingerprint,
            rows=state.rows,
            rows_set_aside=sum(state.reasons.values()),
            set_aside=state.reasons,
            train=state.counts["train"],
            validation=state.counts["validation"],
        )
        work.commit(meta)
        return meta

    def _stages(self) -> list[Stage]:
        config = self.config
        if self.validation is None:
            return [Stage(self.training, "train", config.max_documents, config.validation_fraction)]
        # Of c4's own validation split, a sample of c4 takes a share of its own size, not all 360
        # 000 documents.
        sample = config.max_documents and not config.validation_files
        share = max(1, round(config.max_documents * config.validation_fraction)) if sample else 0
        return [
            Stage(self.training, "train", config.max_documents),
            Stage(self.validation, "validation", share),
        ]

    def _description(self) -> str:
        if self.validation is not None:
            return f"{self.training.description}; validation: {self.validation.description}"
        return f"{self.training.description}; validation: {self.config.validation_fraction:.2%} of the documents held out"

    def _tokenizer(self, folder: Path, given: AnyTokenizer | None, vocab_size: int) -> AnyTokenizer:
        if given is not None:
            given.save(folder)
            return given
        path = folder / TOKENIZER_MODEL
        if path.is_file():  # moved there in one piece by an attempt that was killed later
            return load_tokenizer(path)
        self.progress.say(f"Training a tokenizer of {vocab_size} pieces")
        documents = training_documents(self.config, self.training, self.validation is None)
        train_tokenizer(documents, vocab_size, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
        return load_tokenizer(path)

    def _keep_bad_rows(self, work: WorkFolder) -> None:
        """The work folder goes; the list of bad rows is what the user needs now."""
        work.flush()
        if work.state.sizes[QUARANTINE_NAME]:
            os.replace(work.folder / QUARANTINE_NAME, self.bad_rows)
        work.discard()
