"""Writes metrics for TensorBoard, for those who ask; the only file that imports it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.config.run_folder import TENSORBOARD
from train.errors import UserError
from train.telemetry.metrics import scalars


def check_installed() -> None:
    """Check before anything is built.

    Raises:
        UserError: tensorboard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "log.tensorboard is on, and tensorboard is not installed; pip install "
            "'alphadecay[tensorboard]' or --log.tensorboard false"
        )


class TensorBoardSink:
    """Event files fed with the records of metrics.jsonl.

    Args:
        output_dir: they go to its tensorboard/.
        resume_step: the step gone on from; TensorBoard drops what an earlier process wrote of later
            ones.
    """

    def __init__(self, output_dir: str | Path, resume_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resume_step is None else resume_step + 1
        self._writer = SummaryWriter(str(Path(output_dir) / TENSORBOARD), purge_step=purge)

    def log(self, record: Mapping[str, Any]) -> None:
        """Write one record; keys become kind/key, and per-module values kind/key/module."""
        for name, value in scalars(dict(record)).items():
            self._writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        self._writer.close()
