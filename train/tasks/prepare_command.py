"""Runs the command `python -m train prepare --config RECIPE [--section.key VALUE ...]`."""

from __future__ import annotations

from collections.abc import Sequence

from train.config.command_line import load_command
from train.errors import as_command
from train.tasks.registry import kind_of

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
        print(*kind_of(config).prepare(config), sep="\n")

    return as_command(prepare)
