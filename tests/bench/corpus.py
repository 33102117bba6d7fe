"""A corpus for benches: the running Python's own library, under a tokenizer trained in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from train.config.command_line import load_config
from train.data.preparing.corpora import prepare_all
from train.data.tokenizers.load import load_prepared

PIECES = 4096  # the text does not matter: a small vocabulary serves every model
DOCUMENTS = 120  # of the library, half a million tokens


def small_tokenizer(data: Path) -> Path:
    """Return a tokenizer's file below `data`, trained if there is none."""
    path = data / "tokenizer" / "tokenizer.model"
    if not path.exists():
        words = [f"--data.directory={data / 'quickstart'}", f"--data.max_documents={DOCUMENTS}"]
        (trained,) = prepare_all(load_config(["--config=quickstart", *words]).data, PIECES)
        path.parent.mkdir(parents=True, exist_ok=True)
        load_prepared(trained).save(path.parent)
    return path


def prepare_rows(arguments: Sequence[str]) -> None:
    """Prepare the data of a run by its arguments, or find it prepared."""
    config = load_config(arguments)
    prepare_all(config.data, config.model.vocab_size)
