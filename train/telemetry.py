"""Where a run's figures go: metrics.jsonl first, then the console and wandb as views of it. Silent on all ranks but 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alphadecay import AlphaDecay
from train.config import TrainConfig
from train.metrics import MetricsWriter
from train.progress import Progress, make_progress
from train.world import World


class Telemetry:
    """Args:
    config: the run.
    folder: its output_dir.
    world: this rank; only rank 0 writes.
    resume_step: the step gone on from; None starts afresh.
    """

    def __init__(self, config: TrainConfig, folder: Path, world: World, resume_step: int | None) -> None:
        self._every = config.log.every
        self.steps = config.run.steps
        self._metrics: MetricsWriter | None = None
        self._wandb: Any = None
        self._progress: Progress = make_progress(config.log.progress if world.is_main else "off")
        if world.is_main:
            self._metrics = MetricsWriter(folder / "metrics.jsonl", resume_step)
            if config.log.wandb:
                from train.wandb_sink import WandbSink

                self._wandb = WandbSink(config.log.wandb_project, config.name, folder, asdict(config))
        self._progress.start(config.run.steps, resume_step or 0)

    def train(self, step: int, values: Mapping[str, float]) -> None:
        """A training step; kept every log.every steps and at the last."""
        self._progress.train(step, values["loss"], values["lr"], values["tokens_per_second"])
        if step % self._every == 0 or step == self.steps:
            self._write("train", step, values)

    def validation(self, step: int, loss: float, values: Mapping[str, float]) -> None:
        """A validation."""
        self._progress.validation(step, loss)
        self._write("validation", step, values)

    def refresh(self, decay: AlphaDecay) -> None:
        """A refresh of the decays; its step is the first that runs on them."""
        self._progress.refresh(decay.last_refresh_step, decay.last_refresh_seconds, len(decay.alphas))
        values = {"alphas": decay.alphas, "weight_decays": decay.weight_decays, "refresh_seconds": decay.last_refresh_seconds}
        self._write("refresh", decay.last_refresh_step, values | ({"statuses": decay.statuses} if decay.statuses else {}))

    def message(self, text: str) -> None:
        """A line for the person watching."""
        self._progress.message(text)

    def close(self) -> None:
        """Ends the bar, the file and the wandb run."""
        self._progress.close()
        for sink in (self._metrics, self._wandb):
            if sink is not None:
                sink.close()

    def _write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        if self._metrics is not None:
            record = self._metrics.write(kind, step, values)
            if self._wandb is not None:
                self._wandb.log(record)
