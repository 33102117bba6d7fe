"""Tokenizes labelled sentences once into a folder of arrays, and finds it again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from train.config import TrainConfig
from train.config.tokenizer_name import PREFIX
from train.data.sentences.arrays import (
    FORMAT,
    META,
    Meta,
    Sentences,
    content_of,
    read_meta,
    write_split,
)
from train.data.sentences.rows import Example
from train.data.sentences.source import SPLITS, Source, Split, open_source
from train.data.sources.quarantine import Quarantine
from train.data.tokenizers.pairs import (
    PairTokenizer,
    load_pair_tokenizer,
    train_pair_tokenizer,
)
from train.errors import UserError
from train.models.encoder import form_of, pad_id
from train.system.files import sync

QUARANTINE = "set_aside.jsonl"
_AT_ONCE = 1024  # rows given to the tokenizer


def find_prepared(config: TrainConfig) -> tuple[Path, bool]:
    """Return the folder of the run's sentences, and whether they are prepared.

    Raises:
        UserError: the source or the tokenizer cannot be used.
    """
    folder = _folder(config, open_source(config), _named_tokenizer(config))
    return folder, (folder / META).is_file()


def prepare_sentences(config: TrainConfig) -> Path:
    """Return the folder of the run's sentences, which are tokenized if they are not yet.

    Raises:
        UserError: a source, a tokenizer or too many rows that cannot be used.
    """
    source = open_source(config)
    _check_labels(config, source)
    named = _named_tokenizer(config)
    folder = _folder(config, source, named)
    if (folder / META).is_file():
        return folder
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        meta = _prepare(config, source, named, temporary)
        (temporary / META).write_text(meta.dump(), encoding="utf-8")
        for path in [*temporary.iterdir(), temporary]:
            sync(path)
        _commit(temporary, folder)
    except OSError as error:
        raise UserError(f"data.directory: cannot write {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(*told(meta), sep="\n", flush=True)
    return folder


def told(meta: Meta) -> Iterator[str]:
    """Yield what a person should know of prepared sentences."""
    counts = ", ".join(f"{rows:,} for {split}" for split, rows in meta.rows.items())
    yield f"Sentences of {meta.description}: {counts}"
    if meta.full:
        yield f"  {meta.full:,} fill a row; what was longer is cut (sentences.sequence_length)"
    for reason, count in meta.set_aside.items():
        yield f"  {count:,} set aside: {reason}"


def _prepare(
    config: TrainConfig, source: Source, named: PairTokenizer | None, folder: Path
) -> Meta:
    with (folder / QUARANTINE).open("wb") as listed:
        quarantine = Quarantine(
            listed.write,
            config.sentences.max_bad_fraction,
            key="sentences.max_bad_fraction",
        )
        examples = {split: list(_examples(source, split, quarantine)) for split in SPLITS}
        quarantine.check()
    for split, rows in examples.items():
        if not rows:
            raise UserError(
                f"{source.description} has no row that can be used in its {split} split"
            )
    tokenizer = named or _trained(config, examples["train"])
    _check_tokenizer(config, tokenizer)
    splits: dict[str, Sentences] = {
        split: _encode(rows, tokenizer, config) for split, rows in examples.items()
    }
    for name, sentences in splits.items():
        write_split(folder, name, sentences)
    tokenizer.save(folder)
    longest = config.sentences.sequence_length
    full = sum(
        int((each.lengths(np.arange(len(each))) == longest).sum()) for each in splits.values()
    )
    return Meta(
        source.description,
        source.columns.label_names,
        tokenizer.pad_id,
        {split: len(rows) for split, rows in examples.items()},
        dict(quarantine.reasons),
        full,
        content_of(splits),
    )


def _examples(source: Source, split: Split, quarantine: Quarantine) -> Iterator[Example]:
    """Yield the rows of a split that can be used; the others go to the quarantine."""
    for file, line, values in source.rows(split):
        try:
            if isinstance(values, str):
                raise ValueError(values)
            example = source.columns.example(values)
        except ValueError as error:
            quarantine.reject(file, line, str(error))
            continue
        quarantine.accept()
        yield example


def _encode(examples: list[Example], tokenizer: PairTokenizer, config: TrainConfig) -> Sentences:
    encoded = []
    for first in range(0, len(examples), _AT_ONCE):
        rows = [example.texts for example in examples[first : first + _AT_ONCE]]
        encoded += tokenizer.encode(rows, config.sentences.sequence_length)
    has_types = tokenizer.has_types and form_of(config.model) == "bert"
    types = [type_ for row in encoded for type_ in row.types]
    return Sentences(
        np.array([id_ for row in encoded for id_ in row.ids], dtype=np.int32),
        np.array(types, dtype=np.uint8) if has_types else None,
        np.cumsum([len(row.ids) for row in encoded], dtype=np.int64),
        np.array([example.label for example in examples], dtype=np.float64),
        tokenizer.pad_id,
    )


def _named_tokenizer(config: TrainConfig) -> PairTokenizer | None:
    """Return the tokenizer that the settings name; None where one is to be trained."""
    if config.sentences.tokenizer:
        return load_pair_tokenizer(config.sentences.tokenizer)
    if config.model.pretrained:
        return load_pair_tokenizer(f"{PREFIX}{config.model.pretrained}", "model.pretrained")
    return None


def _trained(config: TrainConfig, examples: list[Example]) -> PairTokenizer:
    texts = (text for example in examples for text in example.texts)
    return train_pair_tokenizer(texts, config.model.vocab_size, form_of(config.model))


def _check_tokenizer(config: TrainConfig, tokenizer: PairTokenizer) -> None:
    """Check that the model has an embedding for every piece, and takes its fill for fill."""
    if tokenizer.size > config.model.vocab_size:
        raise UserError(
            f"The tokenizer {tokenizer.path} has {tokenizer.size} pieces but model.vocab_size is "
            f"{config.model.vocab_size}; set model.vocab_size to at least {tokenizer.size}"
        )
    expected = pad_id(config.model)
    if tokenizer.pad_id != expected:
        raise UserError(
            f"The tokenizer {tokenizer.path} fills rows with {tokenizer.pad_id}, and a "
            f"{config.model.architecture} takes {expected} for fill; name a tokenizer of that form"
        )


def _check_labels(config: TrainConfig, source: Source) -> None:
    """Check that task, head and labels go together.

    Raises:
        UserError: they do not.
    """
    columns = source.columns
    task = "text_regression" if columns.regression else "text_classification"
    if config.task != task:
        raise UserError(
            f"task is {config.task}, and {source.description} is a {task}; set --task {task}"
        )
    outputs = 1 if columns.regression else len(columns.label_names)
    if config.model.num_labels != outputs:
        what = (
            "a regression has one output" if columns.regression else f"there are {outputs} classes"
        )
        raise UserError(
            f"model.num_labels is {config.model.num_labels}, and {what} in {source.description}; "
            f"set --model.num_labels {outputs}"
        )


def _folder(config: TrainConfig, source: Source, named: PairTokenizer | None) -> Path:
    """Return where the sentences lie, a name that changes with all that they depend on."""
    model = config.model
    facts: list[Any] = [
        FORMAT,
        source.identity,
        [*source.columns.text, source.columns.label],
        list(source.columns.label_names),
        config.sentences.sequence_length,
        form_of(model),
        named.sha256 if named else model.vocab_size,
    ]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
    name = config.sentences.source.replace(":", "-")
    return Path(config.data.directory).expanduser() / f"sentences-{name}-{digest}"


def _commit(temporary: Path, folder: Path) -> None:
    """Move the finished folder into place; another process may have been first."""
    try:
        os.replace(temporary, folder)
    except OSError:
        if not folder.is_dir():
            raise
        read_meta(folder)  # complete, since it too came by a rename; else say so
    sync(folder.parent)
