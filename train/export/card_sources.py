"""The run's own files, which a model card is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.run.metrics import Record
from alphadecay.inspect.run.reader import Run, read_run
from train.checkpoint import Checkpoint
from train.config import TrainConfig
from train.config.command_line import load_config
from train.config.run_folder import CONFIG
from train.errors import UserError


@dataclass(frozen=True)
class Exported:
    """The weights that were written beside the card.

    Args:
        checkpoint: where it came from.
        architecture: of the model.
        parameters: their number.
        dtype: of the weights.
        quantize: model.quantize: how the model computes with them.
    """

    checkpoint: Checkpoint
    architecture: str
    parameters: int
    dtype: str
    quantize: str = "none"


@dataclass(frozen=True)
class Sources:
    """The run's own files.

    Args:
        exported: what the card is of.
        run: the run's folder; None where there is none around the checkpoint.
        config: its settings; None where they cannot be read.
    """

    exported: Exported
    run: Run | None
    config: TrainConfig | None

    @property
    def step(self) -> int:
        """Optimizer steps of the checkpoint."""
        return self.exported.checkpoint.step

    @property
    def manifest(self) -> dict[str, Any]:
        """The checkpoint's own description."""
        return self.exported.checkpoint.manifest

    @property
    def summary(self) -> dict[str, Any]:
        """The run's summary.json; empty while it has not been finished once."""
        return self.run.summary if self.run else {}

    @property
    def method(self) -> str:
        """The decay method; empty where nothing says."""
        return str((self.manifest.get("decay") or {}).get("method") or "")

    @property
    def of_c4(self) -> bool:
        """Whether all of the text is C4's."""
        config = self.config
        if config is None or config.task != "language_modelling":
            return False
        return config.data.source == "c4" and not config.data.mixture

    def records(self, kind: str) -> list[Record]:
        """Return the records of one kind up to the checkpoint."""
        records = self.run.of(kind) if self.run else []
        return [record for record in records if record["step"] <= self.step]


def read_sources(exported: Exported) -> Sources:
    """Read the files of the run around a checkpoint, as far as they are there."""
    folder = exported.checkpoint.path.parent.parent
    try:
        run = read_run(folder)
    except InspectError:
        return Sources(exported, None, None)
    try:
        config = load_config(["--config", str(folder / CONFIG)])
    except UserError:  # of another version
        return Sources(exported, run, None)
    return Sources(exported, run, config)
