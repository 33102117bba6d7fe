"""Makes the validations of a run that are due between its steps, each once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from train.cluster.distributed import World
from train.config import TrainConfig
from train.data.loading.rows import Labelled
from train.engines.protocol import Engine
from train.loop.downstream import Downstream
from train.loop.evaluation import evaluate
from train.loop.run_state import Progress
from train.loop.stopping.budget import Budget
from train.telemetry.telemetry import Telemetry


@dataclass(frozen=True)
class Validations:
    """The validation on held-out rows, and the tasks of eval.downstream.

    Args:
        rows: of the validation.
        downstream: None where it is off.
        progress: notes which were made.
    """

    config: TrainConfig
    world: World
    engine: Engine
    rows: Labelled
    downstream: Downstream | None
    telemetry: Telemetry
    progress: Progress
    budget: Budget

    def due(self, step: int) -> Iterator[Callable[[], None]]:
        """Yield what is due after this step and has not been made. Each is collective."""
        last = step == self.config.run.steps
        due = last or step % self.config.eval.every == 0
        if due and self.progress.validated_step != step:
            yield self._validate
        if self.downstream is None or self.progress.asked_step == step:
            return
        if self.downstream.due(step, last):
            yield lambda: self._ask(self.downstream)

    @property
    def _micro_batch(self) -> int:
        return self.config.eval.micro_batch or self.config.run.micro_rows

    def _validate(self) -> None:
        step = self.progress.step
        with self.telemetry.clock.part("evaluation"), self.budget.timed("evaluation"):
            record = evaluate(
                self.engine,
                self.rows,
                self._micro_batch,
                self.world,
                published_batch=self.config.eval.published_batch,
            ).record()
        perplexity = record["val_perplexity"]
        first, _ = self.progress.val_perplexity
        self.progress.val_perplexity = (perplexity if math.isnan(first) else first, perplexity)
        self.progress.validated_step = step
        self.telemetry.validation(step, record)

    def _ask(self, downstream: Downstream | None) -> None:
        assert downstream is not None
        step = self.progress.step
        with self.telemetry.clock.part("evaluation"), self.budget.timed("evaluation"):
            record = downstream.ask(self.engine, self._micro_batch, self.world)
        self.progress.asked_step = step
        self.telemetry.downstream(step, record)
