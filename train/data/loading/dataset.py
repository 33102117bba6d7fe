"""Opens prepared folders as what the loop reads: training batches and the rows of validation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from train.config import DataConfig, TrainConfig
from train.config.shares import whole_shares
from train.data.loading.memmap import Split, TokenFile, content_name
from train.data.loading.rows import Labelled, Rows, open_rows
from train.data.loading.sampler import Batches, validation_rows

_FINGERPRINT = re.compile(r"\b[0-9a-f]{12}\b")


def open_data(folders: Sequence[Path], config: TrainConfig) -> tuple[Batches, Labelled]:
    """Open what `prepare_all` returned as training batches and validation rows.

    Raises:
        UserError: a folder is damaged, or a split has not one row.
    """
    sources = config.data.mixture
    weights = [source.weight for source in sources] or None
    names = [source.name for source in sources] or [""]
    run = config.run
    training = _rows(folders, "train", config.data)
    batches = Batches(training, run.seed_of_data, run.global_batch, weights, names)
    held_out = _rows(folders, "validation", config.data)
    return batches, validation_rows(held_out, config.eval.tokens, weights)


def data_identity(folders: Sequence[Path], data: DataConfig) -> str:
    """Return what a checkpoint remembers of the data: it changes when rows or their order do.

    Each corpus is named by its own content, so that it may lie anywhere and be made at any time;
    one of an earlier version, which does not know its hashes, by its fingerprint.
    """
    return _identity([content_name(folder, hashed=False) for folder in folders], data)


def same_data(saved: object, folders: Sequence[Path], data: DataConfig) -> bool:
    """Return whether a checkpoint's identity of its data means the rows of these folders.

    Earlier versions named a corpus by a fingerprint of its files' paths and times. It stands for
    the content of the folder with that fingerprint, if that is in data.directory; the token files
    of an old folder are read for it.
    """
    now = data_identity(folders, data)
    if saved == now:
        return True

    def by_content(found: re.Match[str]) -> str:
        named = [folder for folder in folders if folder.name.endswith(f"-{found[0]}")]
        named += sorted(Path(data.directory).expanduser().glob(f"*-{found[0]}"))
        return content_name(named[0]) if named else found[0]

    return _FINGERPRINT.sub(by_content, str(saved)) == _FINGERPRINT.sub(by_content, now)


def _identity(names: Sequence[str], data: DataConfig) -> str:
    if not data.mixture:
        return f"{names[0]} {data.rows}"
    shares = whole_shares([source.weight for source in data.mixture])
    named = zip(data.mixture, shares, names, strict=True)
    parts = [f"{source.name} {share} {name}" for source, share, name in named]
    return f"{', '.join(parts)} {data.rows}"


def _rows(folders: Sequence[Path], split: Split, data: DataConfig) -> list[Rows]:
    return [
        open_rows(TokenFile(folder, split), data.sequence_length, data.rows) for folder in folders
    ]
