"""Finds what is wrong with the settings of classifiers of text, beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from train.config import ModelConfig, SentencesConfig, TrainConfig
from train.config.agreements import Wrong
from train.config.tokenizer_name import MOVING, PREFIX, fault_of

TASKS = ("text_classification", "text_regression")
ENCODERS = ("roberta", "bert")
# What a source other than files brings with it.
_OF_FILES = ("train", "validation", "text", "label", "label_names")


def sentence_disagreements(config: TrainConfig) -> Iterator[Wrong]:
    """Yield each choice that cannot go with another."""
    yield from _encoder(config)
    if config.task not in TASKS:
        return
    sentences = config.sentences
    yield from _source(sentences)
    yield from _task(config)
    yield from _hub(sentences)
    fault = fault_of(sentences.tokenizer) if sentences.tokenizer else ""
    if sentences.tokenizer and not sentences.tokenizer.startswith(PREFIX):
        fault = fault or f"; write {PREFIX}FOLDER or {PREFIX}NAME@REVISION"
    if fault:
        yield Wrong("sentences.tokenizer", repr(sentences.tokenizer), fault)


def _encoder(config: TrainConfig) -> Iterator[Wrong]:
    model = config.model
    if model.architecture not in ENCODERS:
        for key in ("dropout", "max_positions", "pretrained"):
            value = getattr(model, key)
            if value != getattr(ModelConfig, key):
                fault = f", and model.architecture is {model.architecture}; it is for roberta, bert"
                yield Wrong(f"model.{key}", repr(value), fault, ("model.architecture",))
        return
    length = config.sentences.sequence_length
    if 0 < model.max_positions < length:
        fault = f", less than sentences.sequence_length = {length}; set it to {length} or more"
        yield Wrong(
            "model.max_positions", str(model.max_positions), fault, ("sentences.sequence_length",)
        )


def _source(sentences: SentencesConfig) -> Iterator[Wrong]:
    source = sentences.source
    others = ("sentences.source",)
    if source != "files":
        for key in _OF_FILES:
            if getattr(sentences, key) != getattr(SentencesConfig, key):
                fault = f", and sentences.source is {source}, which brings its own; leave it out"
                yield Wrong(f"sentences.{key}", "set", fault, others)
        return
    for key in ("train", "validation"):
        if not getattr(sentences, key):
            fault = f", and sentences.source is files; set --sentences.{key} to paths or globs"
            yield Wrong(f"sentences.{key}", "empty", fault, others)
    if len(sentences.text) not in (1, 2):
        fault = "; it must be one column of text, or two"
        yield Wrong("sentences.text", ", ".join(sentences.text) or "empty", fault)


def _task(config: TrainConfig) -> Iterator[Wrong]:
    sentences = config.sentences
    regression = config.task == "text_regression"
    outputs = config.model.num_labels
    metric = sentences.metric
    if metric != "auto" and (metric == "pearson_spearman") != regression:
        what = "numbers" if regression else "classes"
        fault = f", and task is {config.task}, which predicts {what}; leave it on auto"
        yield Wrong("sentences.metric", metric, fault, ("task",))
    if metric == "f1" and outputs != 2:
        fault = f", which is of label 1 of two, and model.num_labels is {outputs}; take accuracy"
        yield Wrong("sentences.metric", metric, fault, ("model.num_labels",))
    if regression and outputs != 1:
        fault = "; it must be 1, for task is text_regression"
        yield Wrong("model.num_labels", str(outputs), fault, ("task",))
    elif not regression and outputs < 2:
        fault = "; it must be at least 2, for task is text_classification"
        yield Wrong("model.num_labels", str(outputs), fault, ("task",))
    elif sentences.label_names and len(sentences.label_names) != outputs:
        fault = (
            f", and sentences.label_names has {len(sentences.label_names)}; they must be as many, "
            "and in a regression there are none"
        )
        yield Wrong("model.num_labels", str(outputs), fault, ("sentences.label_names",))


def _hub(sentences: SentencesConfig) -> Iterator[Wrong]:
    revision = sentences.revision
    if sentences.glue_task is None:
        for key in ("repository", "revision"):
            value = getattr(sentences, key)
            if value != getattr(SentencesConfig, key):
                fault = f", and sentences.source is {sentences.source}; it is for glue:NAME"
                yield Wrong(f"sentences.{key}", repr(value), fault, ("sentences.source",))
    elif revision in MOVING:
        fault = ", a branch, which moves; name a commit or tag, or leave it empty"
        yield Wrong("sentences.revision", repr(revision), fault)
    elif revision and Path(sentences.repository).expanduser().is_dir():
        fault = f", and sentences.repository is the folder {sentences.repository}; leave it out"
        yield Wrong("sentences.revision", repr(revision), fault, ("sentences.repository",))
