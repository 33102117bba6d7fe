"""Sends metrics to Weights & Biases, for those who ask; the only file that imports wandb."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.errors import UserError
from train.system.files import write_atomically
from train.telemetry.metrics import scalars

RUN_ID = "wandb-run-id"  # in the output folder; what makes a resumed run the same run there


def check_installed() -> None:
    """Check before anything is built.

    Raises:
        UserError: wandb is not installed.
    """
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            "log.wandb is on, and wandb is not installed; pip install 'alphadecay[wandb]' or "
            "--log.wandb false"
        )


class WandbSink:
    """One W&B run fed with the records of metrics.jsonl.

    WANDB_MODE=offline writes to the output folder alone.

    Args:
        project: W&B project.
        name: name of the run.
        output_dir: folder that takes the local files and the run's id.
        config: the resolved configuration, shown beside the run.
        resumed: go on with the run whose id the folder has; else a new run.
    """

    def __init__(
        self,
        project: str,
        name: str,
        output_dir: str | Path,
        config: Mapping[str, Any],
        resumed: bool = False,
    ) -> None:
        import wandb

        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        # No patch of the working tree, no source: what a user has lying about is no metric.
        settings = wandb.Settings(
            silent=True,
            disable_git=True,
            disable_code=True,
            save_code=False,
            disable_job_creation=True,
        )
        self._run = wandb.init(
            project=project,
            name=name,
            dir=str(folder),
            config=dict(config),
            settings=settings,
            id=_run_id(folder, resumed),
            resume="allow",
        )
        # W&B's own counter refuses a second record of the same step after a later one, and steps
        # run again after a resume.
        self._run.define_metric("*", step_metric="step")

    def log(self, record: Mapping[str, Any]) -> None:
        """Send one record; keys become kind/key, and per-module values kind/key/module."""
        self._run.log({"step": record["step"], **scalars(dict(record))})

    def close(self) -> None:
        """Finish the run; a second call does nothing."""
        self._run.finish()


def _run_id(folder: Path, resumed: bool) -> str:
    path = folder / RUN_ID
    if resumed and path.exists():
        return path.read_text().strip()
    run_id = uuid.uuid4().hex[:12]
    write_atomically(path, run_id + "\n")
    return run_id
