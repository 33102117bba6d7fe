"""Passes records of metrics.jsonl on to dashboards, none of which can stop a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from train.config import TrainConfig
from train.telemetry import tensorboard_sink, wandb_sink


class Sink(Protocol):
    """A view that takes records."""

    def log(self, record: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class Guarded:
    """A sink whose failure is said once and ends the sink, not the run.

    Args:
        name: the key in the recipe that switched it on.
        make: makes the sink; may fail like the rest.
        say: prints a line.
    """

    def __init__(self, name: str, make: Callable[[], Sink], say: Callable[[str], None]) -> None:
        self._name = name
        self._say = say
        self._sink: Sink | None = None
        self._sink = self._try(make)

    def log(self, record: Mapping[str, Any]) -> None:
        """Hand a record on."""
        if (sink := self._sink) is not None:
            self._try(lambda: sink.log(record))

    def close(self) -> None:
        """End the sink; a second call does nothing."""
        sink = self._sink
        self._sink = None
        if sink is not None:
            self._try(sink.close)

    def _try(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:  # whatever a dashboard's client raises, the run is worth more
            self._sink = None
            self._say(
                f"{self._name} failed and is left out from here on, metrics.jsonl has everything: "
                f"{type(error).__name__}: {error}"
            )
            return None


def check_sinks(config: TrainConfig) -> None:
    """Check, before anything is built, that what the recipe asks for is installed.

    Raises:
        UserError: something is not.
    """
    if config.log.wandb:
        wandb_sink.check_installed()
    if config.log.tensorboard:
        tensorboard_sink.check_installed()


def make_sinks(
    config: TrainConfig, folder: Path, resume_step: int | None, say: Callable[[str], None]
) -> list[Guarded]:
    """Make the sinks that the recipe asks for. For rank 0."""

    def make_wandb() -> Sink:
        project = config.log.wandb_project
        resumed = resume_step is not None
        return wandb_sink.WandbSink(project, config.name, folder, asdict(config), resumed)

    def make_tensorboard() -> Sink:
        return tensorboard_sink.TensorBoardSink(folder, resume_step)

    sinks = []
    if config.log.wandb:
        sinks.append(Guarded("log.wandb", make_wandb, say))
    if config.log.tensorboard:
        sinks.append(Guarded("log.tensorboard", make_tensorboard, say))
    return sinks
