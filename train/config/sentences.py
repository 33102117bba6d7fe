"""Settings that say where labelled sentences come from and how they become rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from train.config.ranges import at_least, within

Metric = Literal["accuracy", "matthews", "f1", "pearson_spearman"]
SourceName = Literal[
    "files",
    "stdlib",
    "glue:cola",
    "glue:sst2",
    "glue:mrpc",
    "glue:stsb",
    "glue:qqp",
    "glue:mnli",
    "glue:qnli",
    "glue:rte",
    "glue:wnli",
]
GLUE = "glue:"


@dataclass(frozen=True)
class GlueTask:
    """A task of GLUE (arXiv 1804.07461).

    Args:
        text: its columns of text.
        label_names: its classes in the order of their numbers; empty where it is a regression.
        metric: its figure of merit.
        validation: the split that it is validated on.
    """

    text: tuple[str, ...]
    label_names: tuple[str, ...]
    metric: Metric = "accuracy"
    validation: str = "validation"


_PAIR = ("sentence1", "sentence2")
_ENTAILS = ("entailment", "not_entailment")
GLUE_TASKS: Mapping[str, GlueTask] = MappingProxyType(
    {
        "cola": GlueTask(("sentence",), ("unacceptable", "acceptable"), "matthews"),
        "sst2": GlueTask(("sentence",), ("negative", "positive")),
        "mrpc": GlueTask(_PAIR, ("not_equivalent", "equivalent"), "f1"),
        "stsb": GlueTask(_PAIR, (), "pearson_spearman"),
        "qqp": GlueTask(("question1", "question2"), ("not_duplicate", "duplicate"), "f1"),
        "mnli": GlueTask(
            ("premise", "hypothesis"),
            ("entailment", "neutral", "contradiction"),
            validation="validation_matched",
        ),
        "qnli": GlueTask(("question", "sentence"), _ENTAILS),
        "rte": GlueTask(_PAIR, _ENTAILS),
        "wnli": GlueTask(_PAIR, ("not_entailment", "entailment")),
    }
)


@dataclass(frozen=True)
class SentencesConfig:
    """Labelled sentences, or pairs of them, of tasks text_classification and text_regression.

    They are tokenized once, into a folder of data.directory.

    Args:
        source: files (see train); glue:NAME, a task of GLUE (see repository), which brings its
            columns, labels and metric; or stdlib, which asks from which of its packages a sentence
            of the running Python's docstrings is.
        repository: of glue:NAME: its name on the hub, or the folder of a copy of it.
        revision: of glue:NAME: a commit or tag of the repository; empty takes the newest, which may
            change.
        train: of files: paths or globs of .jsonl, .json, .tsv or .csv files, or a folder that
            `datasets` saved.
        validation: the same for validation.
        text: of files: the columns of the text, one, or two for pairs.
        label: of files: the column of the label: a class by its number or name, or in a regression
            a number.
        label_names: of files: the classes in the order of their numbers, as many as
            model.num_labels; empty names them by their numbers.
        tokenizer: hf:NAME@REVISION or hf:FOLDER; empty takes that of model.pretrained, or without
            one trains one of model.vocab_size pieces on the training sentences.
        sequence_length: tokens of a row at most; longer texts are cut, of a pair the longer first.
        padding: row fills all rows to sequence_length; micro_batch fills the rows of a forward pass
            to the longest of them, which computes the same and less; auto takes row where layers
            are compiled.
        metric: figure of merit: accuracy, matthews (correlation), f1 (of label 1 of two, with the
            accuracy beside it) or pearson_spearman (correlations, of a regression); auto is the
            task's own in GLUE, else accuracy, or in a regression pearson_spearman.
        max_bad_fraction: refuse a set when more than this share of its rows cannot be used; up to
            that they are set aside and counted.
    """

    source: SourceName = "files"
    repository: str = "nyu-mll/glue"
    revision: str = ""
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    text: tuple[str, ...] = ("sentence",)
    label: str = "label"
    label_names: tuple[str, ...] = ()
    tokenizer: str = ""
    sequence_length: Annotated[int, at_least(4)] = 128
    padding: Literal["auto", "row", "micro_batch"] = "auto"
    metric: Literal["auto", "accuracy", "matthews", "f1", "pearson_spearman"] = "auto"
    max_bad_fraction: Annotated[float, within(0, 1)] = 0.01

    @property
    def glue_task(self) -> GlueTask | None:
        """Return the task of GLUE; None where the source is another."""
        if not self.source.startswith(GLUE):
            return None
        return GLUE_TASKS[self.source.removeprefix(GLUE)]
