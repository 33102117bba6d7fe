"""Settings that say where text comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from train.config.ranges import at_least, greater_than, within


@dataclass(frozen=True)
class MixtureSource:
    """One source of a mixture.

    Args:
        name: of the source; also decides the order in which it is read.
        files: paths or globs of its training text, as data.files.
        weight: its share of the rows, relative to the other sources' weights.
        validation_files: as data.validation_files; empty holds out data.validation_fraction of its
            documents.
    """

    name: str
    files: tuple[str, ...]
    weight: Annotated[float, greater_than(0)]
    validation_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataConfig:
    """Where text comes from and how it becomes rows of tokens.

    Args:
        source: stdlib (the running Python's own library), files (see files), or c4 (allenai/c4,
            streamed from the hub).
        repository: of source c4: its name on the hub, or the folder of a copy of it. With
            HF_HUB_OFFLINE set the copy in the hub's cache is read.
        revision: of source c4: a commit or tag of the repository; empty takes the newest, which may
            change.
        files: paths or globs of training text: C4-form .json.gz, .jsonl or .json (a `text` field a
            line), or .txt.
        validation_files: the same for validation; empty holds out validation_fraction of the
            documents.
        validation_fraction: share of documents held out when there are no validation files.
        tokenizer: a SentencePiece .model file, or hf:NAME@REVISION or hf:FOLDER for a Hugging Face
            one; empty trains a SentencePiece model of model.vocab_size pieces on the corpus.
        directory: folder for prepared token files; they are reused when source and tokenizer are
            unchanged.
        sequence_length: tokens in a row.
        rows: packed (documents joined by end-of-sequence and cut into rows, no fill) or padded (one
            document a row, cut or filled).
        max_documents: stop preparing after this many training documents; 0 takes all.
        max_bad_fraction: stop preparing when more than this share of the rows had to be set aside.
        max_row_bytes: rows (lines, or whole .txt files) longer than this are set aside; 0 sets no
            limit.
        workers: processes that prepare; 0 means as many as cores. The result is the same with any
            number.
        read_ahead: batches that a thread reads before they are needed, into pinned memory for a
            GPU; 0 reads each when it is needed. The batches are the same.
        start_early: begin to train once the validation rows and the first 65,536 training rows are
            prepared, while a process beside rank 0 prepares the rest. Rows are then shuffled in
            blocks of 65,536, in the order of the corpus, instead of all together. The batches are
            the same whether the corpus is prepared before or meanwhile; a run that has begun with
            it goes on with it. Not with a mixture.
        mixture: several sources of files in shares, instead of files: a list of {name, files,
            weight, validation_files}.
    """

    source: Literal["stdlib", "files", "c4"] = "c4"
    repository: str = "allenai/c4"
    revision: str = ""
    files: tuple[str, ...] = ()
    validation_files: tuple[str, ...] = ()
    validation_fraction: Annotated[float, within(0, 0.5, low_open=True)] = 0.02
    tokenizer: str = ""
    directory: str = "data"
    sequence_length: Annotated[int, at_least(2)] = 256
    rows: Literal["packed", "padded"] = "packed"
    max_documents: Annotated[int, at_least(0)] = 0
    max_bad_fraction: Annotated[float, within(0, 1)] = 0.01
    max_row_bytes: Annotated[int, at_least(0)] = 20_000_000
    workers: Annotated[int, at_least(0)] = 0
    read_ahead: Annotated[int, at_least(0)] = 2
    start_early: bool = False
    mixture: tuple[MixtureSource, ...] = ()
