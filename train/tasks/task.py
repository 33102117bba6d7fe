"""Defines what the loop and the dry run ask of a task."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from alphadecay.inspect.run.metrics import FigureOfMerit
from train.cluster.distributed import World
from train.config import TrainConfig
from train.engines.protocol import Engine
from train.errors import Problems
from train.tasks.supply import Supply
from train.telemetry.telemetry import Telemetry

Interruptible = Callable[[], AbstractContextManager[Any]]


class Questions(Protocol):
    """An evaluation beside the validation, at steps of its own."""

    def due(self, step: int, last: bool) -> bool:
        """Return whether they are asked after this step."""

    def ask(self, engine: Engine, micro_batch: int, world: World) -> dict[str, Any]:
        """Return what metrics.jsonl says of the answers. Collective.

        Args:
            micro_batch: rows per rank and forward pass.
        """


class Task(Protocol):
    """A task with its data opened.

    Attributes:
        figure: of merit.
        identity: of the training rows and their order; a part of a checkpoint's identity.
        questions: None where nothing is asked beside the validation.
    """

    figure: FigureOfMerit
    identity: str
    questions: Questions | None

    def supply(self, telemetry: Telemetry) -> Supply:
        """Return the batches of training.

        Args:
            telemetry: takes lines, and the time that is waited.
        """

    def loss(self, outputs: Any, targets: Tensor | None) -> Tensor:
        """Return the mean loss of a micro batch.

        Args:
            outputs: of the model.
            targets: of the micro batch.
        """

    def evaluate(self, engine: Engine) -> dict[str, float]:
        """Return what metrics.jsonl says of a validation, the figure of merit among it.

        Collective. The same on any number of ranks.
        """

    def is_same(self, saved: object) -> bool:
        """Return whether the identity that a checkpoint holds means the rows of this task.

        Raises:
            UserError: it cannot be told yet.
        """

    def keep(self, folder: Path) -> None:
        """Write what exports need beside the checkpoints. Rank 0 calls it.

        Raises:
            OSError: it cannot be written; the run goes on without.
        """

    def end(self) -> None:
        """End what still prepares, where the run is not begun after all."""


@dataclass(frozen=True)
class DataPlan:
    """What a dry run says of the data; nothing is prepared for it.

    Args:
        lines: for a person.
        identity: as the task's; empty while it cannot be told.
        is_same: as the task's.
    """

    lines: tuple[str, ...]
    identity: str = ""
    is_same: Callable[[object], bool] = lambda saved: False


class TaskKind(Protocol):
    """A task by its name, before any data is opened: the functions of a module `kind`."""

    def figure_of(self, config: TrainConfig) -> FigureOfMerit:
        """Return the figure of merit."""

    def open_task(self, config: TrainConfig, world: World, interruptible: Interruptible) -> Task:
        """Prepare the data where that is due, and open them. Collective.

        Args:
            interruptible: a context on rank 0 in which a request to stop is raised, for what takes
                long and has nothing to save.

        Raises:
            UserError: data that cannot be used, on every rank.
            Stopped: rank 0 was asked to stop meanwhile.
        """

    def prepare(self, config: TrainConfig) -> list[Path]:
        """Prepare the data by hand, and return where they are.

        Raises:
            UserError: they cannot be prepared.
        """

    def rows_ready(self, config: TrainConfig) -> int:
        """Return how many rows or documents are prepared: progress before a first step."""

    def plan_data(self, config: TrainConfig, problems: Problems) -> DataPlan:
        """Return what a dry run says of the data, and note what would stop the run."""
