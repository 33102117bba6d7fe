"""Runs the command `python -m train prepare --config RECIPE [--section.key VALUE ...]`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from train.config import TrainConfig
from train.config.command_line import load_command
from train.errors import as_command

HELP = """Turn the text of a recipe into token files, or read each of its images once. A run does
this by itself; by hand it can be done before, without a GPU, and on any machine that sees
data.directory. Only the sections data, images and sentences matter here, and some keys of model.
Killed, the same command goes on where it was.
Prints the folder of each text, or the file that remembers each set of images."""
KEYS = (
    "task",
    "data",
    "images",
    "sentences",
    "model.vocab_size",
    "model.num_labels",
    "model.architecture",
    "model.pretrained",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""

    def prepare() -> None:
        config = load_command(argv, "python -m train prepare", HELP, KEYS)
        print(*_prepared(config), sep="\n")

    return as_command(prepare)


def _prepared(config: TrainConfig) -> Iterable[Path]:
    """Prepare what the task reads, and return where it is."""
    if config.task == "image_classification":
        from train.data.images.sources import prepare_images

        return prepare_images(config.images, config.data, config.model)
    if config.task in ("text_classification", "text_regression"):
        from train.data.sentences.prepare import prepare_sentences

        return [prepare_sentences(config)]
    from train.data.preparing.corpora import prepare_all

    return prepare_all(config.data, config.model.vocab_size)
