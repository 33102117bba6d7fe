"""From prepared folders to what the loop reads: training batches, and the fixed rows of validation."""

from __future__ import annotations

from pathlib import Path

from train.config import DataConfig, TrainConfig
from train.data.memmap import TokenFile, read_meta
from train.data.rows import Labelled, open_rows
from train.data.sampler import Batches, validation_rows


def open_data(folder: Path, config: TrainConfig) -> tuple[Batches, Labelled]:
    """Batches and validation rows of a prepared folder.

    Raises:
        UserError: the folder is damaged, or a split has not one row.
    """
    length, form = config.data.sequence_length, config.data.rows
    training = open_rows(TokenFile(folder, "train"), length, form)
    validation = open_rows(TokenFile(folder, "validation"), length, form)
    return Batches([training], config.run.seed, config.run.global_batch), validation_rows([validation], config.eval.tokens)


def data_identity(folder: Path, data: DataConfig) -> str:
    """What a checkpoint remembers of the data: it changes when the rows do."""
    return f"{read_meta(folder).fingerprint} {data.rows}"
