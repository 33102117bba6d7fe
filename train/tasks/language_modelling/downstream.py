"""Asks a run, every so many steps, the questions of lm-eval's tasks, by its sharded model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.cluster.distributed import World
from train.config import EvalConfig
from train.data.tokenizers.load import AnyTokenizer
from train.engines.protocol import Engine
from train.tasks.language_modelling.lm_eval_tasks import (
    ACCURACY,
    NORMALISED,
    Score,
    load_tasks,
    mean_score,
    refuse_generation,
    score_tasks,
)


@dataclass(frozen=True)
class Downstream:
    """Tasks with their data, and when they are asked.

    Args:
        every: optimizer steps between.
        tasks: from `load_tasks`.
        limit: questions of each; 0 asks all.
        tokenizer: the run's.
        sequence_length: the longest row.
    """

    every: int
    tasks: dict[str, Any]
    limit: int
    tokenizer: AnyTokenizer
    sequence_length: int

    def due(self, step: int, last: bool) -> bool:
        """Return whether they are asked after this step."""
        return bool(step) and (last or step % self.every == 0)

    def ask(self, engine: Engine, micro_batch: int, world: World) -> dict[str, Any]:
        """Return what metrics.jsonl says of the answers. Collective.

        Args:
            micro_batch: rows per rank and forward pass.
        """
        from train.tasks.language_modelling.lm_eval_engine import EngineModel

        with engine.evaluating() as logits_of:
            model = EngineModel(logits_of, self.tokenizer, self.sequence_length, micro_batch, world)
            return _record(score_tasks(model, self.tasks, self.limit))


def load_downstream(
    config: EvalConfig, tokenizer: AnyTokenizer, sequence_length: int, world: World
) -> Downstream | None:
    """Load the tasks of eval.downstream; None where it is off. Collective.

    Rank 0 is first, so that what is downloaded is downloaded once.

    Raises:
        UserError: lm-eval is not installed, or a task cannot be asked. On every rank.
    """
    if not config.downstream:
        return None
    folder = Path(config.downstream_folder) if config.downstream_folder else None

    def load() -> dict[str, Any]:
        tasks = load_tasks(config.downstream_tasks, folder)
        refuse_generation(tasks)
        return tasks

    world.run_on_main(lambda: load() and None, patient=True)
    tasks = world.run_on_all(load)
    return Downstream(config.downstream, tasks, config.downstream_limit, tokenizer, sequence_length)


def _record(scores: Sequence[Score]) -> dict[str, Any]:
    """Return figure -> task -> value, and the means over the tasks."""
    figures: dict[str, Any] = {}
    for one in scores:
        for name, value in one.figures.items():
            figures.setdefault(name, {})[one.task] = value
    means = {f"mean_{name}": mean_score(scores, name) for name in (ACCURACY, NORMALISED)}
    return figures | means
