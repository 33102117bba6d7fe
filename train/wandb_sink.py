"""Metrics to Weights & Biases, for those who ask; the only file that imports wandb."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.errors import UserError


class WandbSink:
    """One W&B run fed with the records of metrics.jsonl. WANDB_MODE=offline writes to the output folder alone.

    Args:
        project: W&B project.
        name: name of the run.
        output_dir: folder that takes the local files.
        config: the resolved configuration, shown beside the run.
    """

    def __init__(self, project: str, name: str, output_dir: str | Path, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError("log.wandb is on, and wandb is not installed; pip install 'alphadecay[wandb]' or --log.wandb false") from error
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        try:
            settings = wandb.Settings(silent=True)
            self._run = wandb.init(project=project, name=name, dir=str(output_dir), config=dict(config), settings=settings)
        except wandb.errors.Error as error:
            raise UserError(f"wandb cannot start: {error}; `wandb login`, WANDB_MODE=offline, or --log.wandb false") from error

    def log(self, record: Mapping[str, Any]) -> None:
        """Send one record; keys become kind/key, and per-module values kind/key/module."""
        # step travels as a value: W&B's own counter refuses a second record of the same step after a later one.
        values = {f"{record['kind']}/{key}": value for key, value in record.items() if key not in ("kind", "step") and value is not None}
        self._run.log({"step": record["step"], **values})

    def close(self) -> None:
        """Finish the run; a second call does nothing."""
        self._run.finish()
