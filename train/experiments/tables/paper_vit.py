"""Sets the set-up of a run of images, point by point, beside the paper's ViT-tiny: AlphaDecay,
arXiv 2506.14562, as its published code trains it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from train.config.in_words import images_words, schedule_words
from train.experiments.tables.collect import Record
from train.experiments.tables.paper_reference import Point, decay_points

_CODE = "(published code)"
_EPOCH = 3336  # steps: 1,281,167 images in rows of 384
_STEPS = 120 * _EPOCH
_WARMUP = 20 * _EPOCH


def points(record: Record) -> Iterator[Point]:
    """Compare every point of a run's set-up that the paper or its code has a word on."""
    yield from _images(record)
    yield from _model(record)
    yield from _length(record)
    yield from _optimizer(record)
    yield from decay_points(record)


def _images(record: Record) -> Iterator[Point]:
    config = record.config
    classes = config.model.num_labels
    of_folders = config.images.source != "drawn"
    yield Point(
        "images", images_words(config.images), "ImageNet-1K", of_folders and classes == 1000
    )
    yield Point("classes", f"{classes:,}", "1,000", classes == 1000)
    side = config.model.image_size
    yield Point("side of an image", f"{side}", "224", side == 224)


def _model(record: Record) -> Iterator[Point]:
    model = record.config.model
    shape = (model.hidden_size, model.intermediate_size, model.num_heads, model.num_layers)
    tiny = shape == (192, 768, 3, 12) and model.patch_size == 16
    words = (
        f"hidden {model.hidden_size}, intermediate {model.intermediate_size}, {model.num_heads} "
        f"heads, {model.num_layers} layers, patches of {model.patch_size}"
    )
    yield Point("model", "ViT-tiny" if tiny else words, "ViT-tiny", tiny)
    rate = model.drop_path
    yield Point("drop path", f"{rate:g}", f"0.1 {_CODE}", math.isclose(rate, 0.1))


def _length(record: Record) -> Iterator[Point]:
    run = record.config.run
    yield Point("rows a step", f"{run.global_batch:,}", f"2 × 192 {_CODE}", run.global_batch == 384)
    expected = f"{_STEPS:,}, 120 epochs {_CODE}"
    yield Point("steps", f"{run.steps:,}", expected, run.steps == _STEPS)
    precision = str(record.summary.get("precision") or "not recorded")
    yield Point("precision", precision, f"float32 {_CODE}", precision == "float32")


def _optimizer(record: Record) -> Iterator[Point]:
    optim = record.config.optim
    steps = record.config.run.steps
    rate = f"{optim.lr:g}"
    yield Point("peak learning rate", rate, f"0.004 {_CODE}", math.isclose(optim.lr, 4e-3))
    usual = optim.schedule == "cosine" and optim.warmup_steps == _WARMUP
    warmup = f"20 epochs of warm-up {_CODE}"
    yield Point("schedule", schedule_words(optim, steps), warmup, usual)
    yield Point("optimizer", optim.name, "adam", optim.name == "adam")
    average = f"{optim.ema:g}" if optim.ema else "none"
    yield Point("average of the weights", average, f"0.9999 {_CODE}", optim.ema == 0.9999)
