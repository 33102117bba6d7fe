"""Modular arithmetic with its pairs written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from train.cluster.distributed import World
from train.config import TrainConfig
from train.engines.protocol import Engine, LogitsOf
from train.tasks.modular_arithmetic.kind import ACCURACY
from train.tasks.modular_arithmetic.pairs import PairBatches, Rows, split_pairs
from train.tasks.supply import Supply
from train.telemetry.telemetry import Telemetry


class ModularArithmetic:
    """Reckons with numbers that are tokens; compared by accuracy on held-out pairs.

    Args:
        config: of the run.
        world: this rank.
    """

    questions = None

    def __init__(self, config: TrainConfig, world: World) -> None:
        self.figure = ACCURACY
        self._config = config
        self._world = world
        self._pairs = split_pairs(config)
        self.identity = self._pairs.identity

    def supply(self, telemetry: Telemetry) -> Supply:
        """Return the batches of training."""
        run = self._config.run
        batches = PairBatches(self._pairs.training, run.seed_of_data, run.global_batch)
        return Supply(self._config, self._world, batches)

    def loss(self, outputs: Any, targets: Tensor | None) -> Tensor:
        """Return the mean cross-entropy of the answers, in float32."""
        assert targets is not None
        return functional.cross_entropy(outputs.logits[:, -1].float(), targets)

    @torch.no_grad()
    def evaluate(self, engine: Engine) -> dict[str, float]:
        """Return loss and accuracy on the held-out pairs, and accuracy on those trained on.

        Collective. Which of the pairs is learned by heart and which is understood, both tell.
        """
        with engine.evaluating() as logits_of:
            loss, accuracy = self._figures(logits_of, self._pairs.held_out)
            _, by_heart = self._figures(logits_of, self._pairs.training)
        return {"val_loss": loss, ACCURACY.name: accuracy, "train_accuracy": by_heart}

    def is_same(self, saved: object) -> bool:
        """Return whether a checkpoint's pairs are these."""
        return saved == self.identity

    def keep(self, folder: Path) -> None:
        """Write nothing: the numbers are the tokens."""

    def end(self) -> None:
        """End nothing: nothing is prepared."""

    def _figures(self, logits_of: LogitsOf, rows: Rows) -> tuple[float, float]:
        """Return mean loss and percentage of right answers. Collective."""
        world = self._world
        micro_batch = self._config.eval.micro_batch or self._config.run.micro_rows
        count = len(rows.answers)
        sums = torch.zeros(2, dtype=torch.float64, device=world.device)
        for start in range(0, count, micro_batch * world.size):
            first = start + world.rank * micro_batch
            # Past the end a row is run again and not counted, so that the ranks stay in step.
            index = torch.arange(first, first + micro_batch).clamp(max=count - 1)
            logits = logits_of({"input_ids": rows.tokens[index].to(world.device)})[:, -1].float()
            counted = max(0, min(micro_batch, count - first))
            answers = rows.answers[index][:counted].to(world.device)
            losses = functional.cross_entropy(logits[:counted], answers, reduction="sum")
            right = (logits[:counted].argmax(-1) == answers).sum()
            sums += torch.stack([losses, right]).double()
        dist.all_reduce(sums)
        loss, right_answers = (sums / count).tolist()
        return loss, 100 * right_answers
