"""Settings in a few words, for tables and model cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from train.config.data import DataConfig
from train.config.images import ImagesConfig
from train.config.optim import OptimConfig
from train.config.sentences import GLUE, SentencesConfig

NAMED = 2  # files named one by one


def data_words(data: DataConfig, whole_paths: bool = True) -> str:
    """Name the source of the text.

    Args:
        whole_paths: name files as the recipe does; else without their folders, which are nobody
            else's business.
    """
    if data.mixture:
        shares = [f"{source.name} ({source.weight:g})" for source in data.mixture]
        return f"mixture of {', '.join(shares)}"
    if data.source == "files":
        names = data.files if whole_paths else [Path(name).name for name in data.files]
        return _files_words(names)
    return "C4" if data.source == "c4" else "source of the Python standard library"


def images_words(images: ImagesConfig) -> str:
    """Name the source of the images, without the folders that theirs lies in."""
    if images.source == "drawn":
        return f"{images.drawn_train:,} images of shapes and textures, drawn by the program"
    return f"images of `{Path(images.train).name}`"


def sentences_words(sentences: SentencesConfig) -> str:
    """Name the source of labelled sentences, without the folders that files lie in."""
    if sentences.source == "files":
        return _files_words([Path(name).name for name in sentences.train])
    if sentences.source == "stdlib":
        return "docstrings of the Python standard library"
    return f"{sentences.source.removeprefix(GLUE)} of GLUE"


def tokenizer_words(data: DataConfig) -> str:
    """Name the tokenizer, without the folder it lies in."""
    if not data.tokenizer:
        return "SentencePiece, trained on the corpus"
    return data.tokenizer.rpartition("/")[2]


def schedule_words(optim: OptimConfig, steps: int) -> str:
    """Describe the learning-rate schedule of a run of so many steps."""
    if optim.schedule == "range":
        return f"exponential from {optim.min_lr_ratio * 100:g} %"
    fall = ""
    if optim.schedule == "wsd":
        fall = f", falling over the last {optim.wsd_decay_share:.0%}"
    warmup = 100 * optim.warmup_steps / steps
    floor = optim.min_lr_ratio * 100
    return f"{optim.schedule} to {floor:g} %{fall}, {warmup:.3g} % warm-up"


def _files_words(names: Sequence[str]) -> str:
    named = ", ".join(f"`{name}`" for name in names[:NAMED])
    rest = len(names) - NAMED
    return f"files {named}" + (f" and {rest} more" if rest > 0 else "")
