"""Opens prepared folders as what the loop reads: training batches and the rows of validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from train.config import DataConfig, TrainConfig
from train.config.shares import whole_shares
from train.data.loading.memmap import Split, TokenFile, read_meta
from train.data.loading.rows import Labelled, Rows, open_rows
from train.data.loading.sampler import Batches, validation_rows


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
    """Return what a checkpoint remembers of the data: it changes when rows or their order do."""
    fingerprints = [read_meta(folder).fingerprint for folder in folders]
    if not data.mixture:
        return f"{fingerprints[0]} {data.rows}"
    shares = whole_shares([source.weight for source in data.mixture])
    named = zip(data.mixture, shares, fingerprints, strict=True)
    parts = [f"{source.name} {share} {fingerprint}" for source, share, fingerprint in named]
    return f"{', '.join(parts)} {data.rows}"


def _rows(folders: Sequence[Path], split: Split, data: DataConfig) -> list[Rows]:
    return [
        open_rows(TokenFile(folder, split), data.sequence_length, data.rows) for folder in folders
    ]
