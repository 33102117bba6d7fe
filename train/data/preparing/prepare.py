"""Turns text into token files, once for all runs that use it.

The result is reused by every run with the same text, tokenizer and split; sequence length, form of
the rows and seed do not matter to it. A preparation that was killed goes on where it was when the
same one is asked for again, and ends with the same bits, as it does with any number of workers.
"""

from __future__ import annotations

import errno
import os
import shutil
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
    hash_token_files,
    read_meta,
)
from train.data.preparing.content import FollowingHashes
from train.data.preparing.encode import is_held_out
from train.data.preparing.ingest import Ingest, Stage
from train.data.preparing.inputs import Inputs, open_inputs, prepared_folder
from train.data.preparing.progress import Progress
from train.data.preparing.work_folder import WorkFolder
from train.data.sources.quarantine import BadCorpus, Quarantine
from train.data.sources.source import Source
from train.data.tokenizers.load import AnyTokenizer, check_vocab, load_prepared, load_tokenizer
from train.data.tokenizers.sentencepiece import train_tokenizer
from train.errors import UserError


def prepare(
    config: DataConfig,
    vocab_size: int,
    report: Callable[[str], None] | None = None,
    beside: Path | None = None,
) -> Path:
    """Prepare the corpus of a configuration without a mixture, or find it prepared.

    Args:
        config: the data section.
        vocab_size: model.vocab_size; the size of a tokenizer trained here, an upper bound for a
            given one.
        report: takes progress lines; None draws a bar on stderr, or writes lines there if it is no
            terminal.
        beside: the folder of which a run reads meanwhile what is there already: few lines, and an
            error takes nothing of it away.

    Returns:
        The folder; open it with TokenFile(folder, "train") and TokenFile(folder, "validation").

    Raises:
        UserError: anything wrong with the configuration or the corpus that a user can mend.
    """
    inputs = open_inputs(config, vocab_size)
    expected = config.max_documents or inputs.training.expected
    with Progress("Preparing tokens", report, expected, seldom=beside is not None) as progress:
        folder = prepared_folder(config, inputs, progress.say)
        if beside not in (None, folder):
            raise UserError(
                f"data.files: the run waits for {beside}, and the files as they are now make "
                f"{folder}; start again once they no longer change"
            )
        if folder.exists():
            progress.say(f"Using the prepared corpus in {folder}")
            check_vocab(load_prepared(folder), vocab_size)
        else:
            _Preparation(config, inputs, folder, progress, beside).run(vocab_size)
    _check_result(folder, config)
    return folder


def training_documents(config: DataConfig, training: Source, holds_out: bool) -> Iterator[str]:
    """Yield the documents that a tokenizer may be trained on, in order: never one of validation."""
    taken = 0
    for index, text in enumerate(training.documents(Quarantine(None, config.max_bad_fraction))):
        if holds_out and is_held_out(index == 0, text, config.validation_fraction):
            continue
        yield text
        taken += 1
        if taken == config.max_documents:
            return


def find_prepared(config: DataConfig, vocab_size: int, writable: bool = False) -> tuple[Path, bool]:
    """Return the folder that `prepare` makes or reuses, and whether it is there.

    Checks what it can of the sources.

    Args:
        writable: whether hashes made on the way may be kept; else nothing is written.

    Raises:
        UserError: as `prepare`.
    """
    inputs = open_inputs(config, vocab_size)
    folder = prepared_folder(config, inputs, lambda _: None, writable)
    if folder.exists():
        check_vocab(load_prepared(folder), vocab_size)
        _check_result(folder, config)
    return folder, folder.exists()


def _check_result(folder: Path, config: DataConfig) -> None:
    """Check what depends on the run rather than on the folder, also where the folder is reused."""
    for split in SPLITS:
        file = TokenFile(folder, split)  # as rows it is opened by what needs torch anyway
        if config.rows == "packed":
            file.check_rows(config.sequence_length)
        else:
            file.check_documents()
    meta = read_meta(folder)
    if meta.rows_set_aside > config.max_bad_fraction * meta.rows:
        raise UserError(
            f"{folder}: {meta.rows_set_aside} of {meta.rows} rows of the corpus had to be set "
            f"aside ({QUARANTINE_NAME} there says why), above data.max_bad_fraction "
            f"{config.max_bad_fraction:.1%}; mend the corpus or raise it."
        )


class _Preparation:
    """One preparation, from sources to a folder in place."""

    def __init__(
        self,
        config: DataConfig,
        inputs: Inputs,
        folder: Path,
        progress: Progress,
        beside: Path | None,
    ) -> None:
        self.beside = beside
        self.config = config
        self.inputs = inputs
        self.folder = folder
        self.progress = progress
        self.bad_rows = folder.with_name(f"{folder.name}.{QUARANTINE_NAME}")

    def run(self, vocab_size: int) -> None:
        started = time.monotonic()
        with WorkFolder(self.folder, self.progress.say) as work:
            if work.finished:
                self.progress.say(
                    f"Using the corpus that another process prepared in {self.folder}"
                )
                return
            self.progress.say(f"Preparing {self.inputs.training.description} into {self.folder}")
            for source in (self.inputs.training, self.inputs.validation):
                for note in source.notes if source is not None else ():
                    self.progress.say(note)
            try:
                meta = self._write(work, vocab_size)
            except BadCorpus:
                self._keep_bad_rows(work)
                raise
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise UserError(
                    f"data.directory: {self.folder.parent} is full ({error.strerror}); free some "
                    "space, and the same command goes on from what was prepared."
                ) from error
        bad_rows = ""
        if meta.rows_set_aside:
            listed = self.folder / QUARANTINE_NAME
            bad_rows = f"; {meta.rows_set_aside} rows set aside, see {listed}"
        self.progress.say(
            f"Prepared {meta.train.documents:,} documents, {meta.train.tokens:,} tokens for "
            f"training and {meta.validation.documents:,}, {meta.validation.tokens:,} for "
            f"validation in {time.monotonic() - started:.1f} s{bad_rows}"
        )

    def _write(self, work: WorkFolder, vocab_size: int) -> Meta:
        tokenizer = self._tokenizer(work.folder, vocab_size)
        check_vocab(tokenizer, vocab_size)
        self.bad_rows.unlink(missing_ok=True)  # of an earlier attempt
        quarantine = Quarantine(work.quarantine, self.config.max_bad_fraction, self.bad_rows)
        ingest = Ingest(work, tokenizer, quarantine, self.progress, self.config.workers)
        validation = self.inputs.validation
        with (
            FollowingHashes(self.inputs.training.files) as of_training,
            FollowingHashes(validation.files if validation else ()) as of_validation,
        ):
            first = work.state.validation_first
            ingest.run(self._stages(of_training, of_validation, first))
            inputs = self.inputs.by_content(of_training.result(), of_validation.result())
        state = work.state
        work.flush()
        meta = Meta(
            FORMAT_VERSION,
            dtype_name(tokenizer.size),
            tokenizer.size,
            tokenizer.eos_id,
            tokenizer.sha256,
            self._description(),
            self.inputs.fingerprint,
            rows=state.rows,
            rows_set_aside=sum(state.reasons.values()),
            set_aside=state.reasons,
            train=state.counts["train"],
            validation=state.counts["validation"],
            hashes=hash_token_files(work.folder),
            inputs=inputs,
        )
        work.commit(meta)
        return meta

    def _stages(
        self,
        training_hashes: FollowingHashes,
        validation_hashes: FollowingHashes,
        validation_first: bool,
    ) -> list[Stage]:
        config = self.config
        training = self.inputs.training
        validation = self.inputs.validation
        if validation is None:
            held_out = config.validation_fraction
            return [Stage(training, "train", training_hashes, config.max_documents, held_out)]
        # Of c4's own validation split, a sample of c4 takes a share of its own size, not all
        # 360 000 documents.
        sample = config.max_documents and not config.validation_files
        share = max(1, round(config.max_documents * config.validation_fraction)) if sample else 0
        stages = [
            Stage(validation, "validation", validation_hashes, share),
            Stage(training, "train", training_hashes, config.max_documents),
        ]
        return stages if validation_first else stages[::-1]

    def _description(self) -> str:
        held_out = f"{self.config.validation_fraction:.2%} of the documents held out"
        if self.inputs.validation is not None:
            held_out = self.inputs.validation.description
        return f"{self.inputs.training.description}; validation: {held_out}"

    def _tokenizer(self, folder: Path, vocab_size: int) -> AnyTokenizer:
        given = self.inputs.tokenizer
        if given is not None:
            given.save(folder)
            return given
        path = folder / TOKENIZER_MODEL
        if path.is_file():  # moved there in one piece by an attempt that was killed later
            return load_tokenizer(path)
        self.progress.say(f"Training a tokenizer of {vocab_size} pieces")
        holds_out = self.inputs.validation is None
        documents = training_documents(self.config, self.inputs.training, holds_out)
        train_tokenizer(documents, vocab_size, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
        return load_tokenizer(path)

    def _keep_bad_rows(self, work: WorkFolder) -> None:
        """Remove the work folder but keep the list of bad rows, which the user needs now."""
        work.flush()
        if work.state.sizes[QUARANTINE_NAME]:
            shutil.copyfile(work.folder / QUARANTINE_NAME, self.bad_rows)
        if self.beside is None:
            work.discard()
