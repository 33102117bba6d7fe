"""Runs the command `python -m train prepare --config RECIPE [--section.key VALUE ...]`."""

from __future__ import annotations

from collections.abc import Sequence

from train.config.command_line import load_command
from train.errors import as_command

HELP = """Turn the text of a recipe into token files. A run does this by itself; by hand it can be
done before, without a GPU, and on any machine that sees data.directory. Only the data section and
model.vocab_size matter here. Killed, the same command goes on where it was.
Prints the folder of each source."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    from train.data.preparing.corpora import prepare_all

    def prepare() -> None:
        config = load_command(argv, "python -m train prepare", HELP, ("data", "model.vocab_size"))
        print(*prepare_all(config.data, config.model.vocab_size), sep="\n")

    return as_command(prepare)
