"""Sets a fine-tuning beside the paper's, arXiv 2506.14562, of which little more than the model is
known.
"""

from __future__ import annotations

from collections.abc import Iterator

from train.config.in_words import schedule_words, sentences_words
from train.experiments.tables.collect import Record
from train.experiments.tables.paper_reference import Point, decay_points

_UNKNOWN = "not known to us"
_BASE = ("roberta", 768, 3072, 12, 12)  # RoBERTa-base


def points(record: Record) -> Iterator[Point]:
    """Compare every point of a run's set-up that the paper has a word on, and name the others."""
    config = record.config
    model = config.model
    glue = config.sentences.glue_task is not None
    yield Point("data", sentences_words(config.sentences), "GLUE", glue)
    sizes = (model.hidden_size, model.intermediate_size, model.num_heads, model.num_layers)
    base = (model.architecture, *sizes) == _BASE and bool(model.pretrained)
    start = "pretrained" if model.pretrained else "from scratch"
    words = f"{model.architecture} of width {model.hidden_size}, {model.num_layers} layers, {start}"
    yield Point("model", "roberta-base" if base else words, "roberta-base", base)
    optim = config.optim
    run = config.run
    yield Point("steps", f"{run.steps:,} of {run.global_batch} rows", _UNKNOWN, False)
    rate = f"{optim.name}, {optim.lr:g}, {schedule_words(optim, run.steps)}"
    yield Point("optimizer and learning rate", rate, _UNKNOWN, False)
    yield Point("base decay", f"{optim.weight_decay:g}", _UNKNOWN, False)
    yield Point("decay towards", config.decay.towards, "zero", config.decay.towards == "zero")
    yield from decay_points(record)
