"""Makes the validations of a run that are due between its steps, each once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from train.cluster.distributed import World
from train.config import TrainConfig
from train.engines.protocol import Engine
from train.loop.run_state import Progress
from train.loop.stopping.budget import Budget
from train.tasks.task import Questions, Task
from train.telemetry.telemetry import Telemetry


@dataclass(frozen=True)
class Validations:
    """The validation on held-out rows, and what else a task is asked.

    Args:
        progress: notes which were made.
    """

    config: TrainConfig
    world: World
    engine: Engine
    task: Task
    telemetry: Telemetry
    progress: Progress
    budget: Budget

    def due(self, step: int) -> Iterator[Callable[[], None]]:
        """Yield what is due after this step and has not been made. Each is collective."""
        last = step == self.config.run.steps
        due = last or step % self.config.eval.every == 0
        if due and self.progress.validated_step != step:
            yield self._validate
        questions = self.task.questions
        if questions is None or self.progress.asked_step == step:
            return
        if questions.due(step, last):
            yield lambda: self._ask(questions)

    def _validate(self) -> None:
        step = self.progress.step
        with self.telemetry.clock.part("evaluation"), self.budget.timed("evaluation"):
            with self.telemetry.logits.watching():
                record = self.task.evaluate(self.engine)
            sizes = self.telemetry.logits.read()
        self.progress.validated(step, record[self.task.figure.name])
        self.telemetry.validation(step, record | sizes, self.task.figure)

    def _ask(self, questions: Questions) -> None:
        step = self.progress.step
        rows = self.config.eval.micro_batch or self.config.run.micro_rows
        with self.telemetry.clock.part("evaluation"), self.budget.timed("evaluation"):
            record = questions.ask(self.engine, rows, self.world)
        self.progress.asked_step = step
        self.telemetry.downstream(step, record)
