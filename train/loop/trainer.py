"""The training loop: batches in, steps, refreshes, validations and checkpoints in a fixed order on
every rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from train import checkpoint
from train.cluster.distributed import World
from train.config import TrainConfig
from train.config.run_folder import CHECKPOINTS
from train.data.loading.rows import Labelled
from train.data.loading.sampler import Batches
from train.engines.protocol import Engine
from train.errors import UserError
from train.loop.decay_methods import Decay
from train.loop.evaluation import evaluate
from train.loop.random_state import random_state, set_random_state
from train.loop.run_state import Progress, RunState
from train.loop.schedules import learning_rate
from train.loop.stopping.budget import Budget
from train.loop.stopping.guard import LossSpikeDetector, SkippedSteps, poison_nonfinite_loss
from train.loop.stopping.signals import StopRequests, agreed
from train.telemetry.telemetry import Telemetry


@dataclass
class Trainer:
    """One run, built and maybe resumed; `train` takes it to its last step, or to the step at which
    the ranks agree to stop.

    Args:
        decay: the controller of decay.method, or None for uniform and none.
        identity: what checkpoints say about this run.
        requests: what asks this process to stop.
        progress: how far it has come.
        saved_step: of the checkpoint it last wrote or read; -1 before the first.
        saved: that checkpoint.
        stopped: why it stopped before the last step; empty while it runs and when it is finished.
    """

    config: TrainConfig
    world: World
    engine: Engine
    decay: Decay | None
    batches: Batches
    validation: Labelled
    telemetry: Telemetry
    identity: dict[str, Any]
    folder: Path
    saver: checkpoint.Saver
    requests: StopRequests = field(default_factory=StopRequests)
    progress: Progress = field(default_factory=Progress)
    saved_step: int = -1
    saved: Path | None = None
    stopped: str = ""

    def __post_init__(self) -> None:
        run = self.config.run
        self.skips = SkippedSteps(run.max_skipped_steps)
        self.spikes = LossSpikeDetector(run.spike_sd)
        self.budget = Budget(run.max_hours)
        self.state = RunState()
        self.state.register("progress", self.progress)
        self.state.register("telemetry", self.telemetry)
        self.state.register("skips", self.skips)
        self.state.register("spikes", self.spikes)
        self.state.register("longest", self.budget)
        if self.decay is not None:
            self.state.register("alphadecay", self.decay)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step

    def train(self) -> None:
        """Steps, and what comes between them. Collective.

        Raises:
            UserError: too many steps in a row were skipped; a checkpoint has been written.
        """
        if self.decay is not None and self.saved_step < 0:
            self._tell_refresh(self.decay)
        self._ask()
        self._between_steps()
        while self.step < self.config.run.steps and not self.stopped:
            self._one_step(self.step + 1)
            self._between_steps()
        if self.stopped and self.step:
            self.save(last=True)

    def save(self, last: bool = False) -> None:
        """One checkpoint of this step; the last must not fail. Collective."""
        if self.saved_step == self.step:
            return
        with self.telemetry.clock.part("checkpoint"), self.budget.timed("save"):
            self._save(last)

    def _save(self, last: bool) -> None:
        client_state = {"step": self.step, **self.state.state_dict()}
        path = self.saver.save(self.step, client_state, random_state(), last=last)
        if path is not None:
            self.saved_step = self.step
            self.saved = path
            self.telemetry.message(f"checkpoint {path}")

    def resume(self, found: checkpoint.Checkpoint) -> None:
        """Go on where `found` was written, with its decays and random states. Collective."""
        state = checkpoint.load(self.engine, found)
        try:
            self.state.load_state_dict(state)
        except ValueError as error:  # alike on every rank: it is about what was saved
            raise UserError(f"cannot go on from {found.path}: {error}") from error
        self.saved_step = self.step
        self.saved = found.path
        if self.decay is not None and self.decay.last_refresh_step > self.step:
            # It is for the step to come: its line was cut off with that step's.
            self._tell_refresh(self.decay)
        rank_state = checkpoint.load_rank_state(found, self.world.rank)
        if rank_state is not None:
            set_random_state(rank_state)

    def _tell_refresh(self, decay: Decay) -> None:
        first = max(1, decay.last_refresh_step)
        lr = learning_rate(self.config.optim, first, self.config.run.steps)
        self.telemetry.refresh(decay, lr)

    def _one_step(self, step: int) -> None:
        """One optimizer step over the global batch, and the refresh that is due after it."""
        self.telemetry.begin(step)
        with self.budget.timed("step"):
            values, stop = self._forward_backward_step(step)
        with self.telemetry.clock.part("refresh"), self.budget.timed("refresh"):
            refreshed = self.decay is not None and self.decay.step()
        if self.decay is not None and refreshed:
            self._tell_refresh(self.decay)
        self.progress.tokens += self.batches.tokens(self.step)
        self.progress.step = step
        self.stopped = stop
        self.telemetry.train(step, values | {"tokens": self.progress.tokens})
        self._watch(values)
        if refreshed:
            self._ask()

    def _forward_backward_step(self, step: int) -> tuple[dict[str, float], str]:
        """The step's figures, and why to stop after it; batch k of the run belongs to step k + 1."""
        c = self.config
        lr = learning_rate(c.optim, step, c.run.steps)
        self.engine.set_learning_rate(lr)
        losses = []
        part = self.telemetry.clock.part
        with part("data"):
            batch = self.batches.batch(
                step - 1, self.world.rank, self.world.size, c.run.micro_batch
            )
        for tokens, labels, scale in batch:
            with part("data"):
                tokens = tokens.to(self.world.device)
                labels = labels.to(self.world.device)
            with part("forward_backward"):
                loss = self.engine.forward(tokens, labels) * scale
                self.engine.backward(poison_nonfinite_loss(loss))
            with part("step"):
                self.engine.step()
            losses.append(loss.detach())
        if self.engine.step_was_applied():
            self.telemetry.stepped(lr, self.decay)
        with part("step"):  # the ranks wait for the slowest here
            mean = torch.stack(losses).double().mean().reshape(1)
            # One message for the loss and for the requests to stop.
            message = torch.cat(
                [mean, torch.tensor(self._flags(), dtype=torch.float64, device=mean.device)]
            )
            dist.all_reduce(message)
            loss_sum, *flags = message.tolist()
        values = {
            "loss": loss_sum / self.world.size,
            "lr": lr,
            "grad_norm": self.engine.gradient_norm(),
        }
        return values, agreed(flags)

    def _watch(self, values: dict[str, float]) -> None:
        """Counts and tells skipped steps and spikes.

        Raises UserError, after a checkpoint, where too many were skipped.
        """
        skipped = not self.engine.step_was_applied()
        too_many = self.skips.note(skipped)
        if skipped:
            text = f"step skipped: its loss or gradient is not finite ({self.skips.in_a_row} in a row, {self.skips.total} in all)"
            self.telemetry.notice(
                self.step,
                text,
                loss=values["loss"],
                in_a_row=self.skips.in_a_row,
                skipped_steps=self.skips.total,
            )
        mean = self.spikes.mean
        distance = self.spikes.note(values["loss"])
        if distance:
            text = f"loss {values['loss']:.4f} is {distance:.1f} standard deviations above its running mean {mean:.4f}"
            self.telemetry.notice(
                self.step, text, loss=values["loss"], mean=mean, deviations=distance
            )
        if too_many:
            self.save(last=True)
            raise UserError(
                f"{self.skips.in_a_row} steps in a row had a loss or gradient that is not finite "
                f"(run.max_skipped_steps); stopped at step {self.step} with a checkpoint in "
                f"{self.folder / CHECKPOINTS}. Weights are as before those steps: go on with a "
                "smaller --optim.lr, or from an older one with --resume PATH"
            )

    def _between_steps(self) -> None:
        """The validation and the checkpoint that are due after this step. Collective.

        A run that stops puts its validation off: the run that goes on from there makes it first.
        """
        c = self.config
        last = self.step == c.run.steps
        if last:
            self.stopped = ""  # nothing is left to stop
        if (
            self.progress.validated_step != self.step
            and not self.stopped
            and (last or self.step % c.eval.every == 0)
        ):
            self._validate()
            self._ask()
        if (
            self.step
            and not self.stopped
            and (last or (c.checkpoint.every and self.step % c.checkpoint.every == 0))
        ):
            self.save(last)
            self._ask()

    def _validate(self) -> None:
        c = self.config
        with self.telemetry.clock.part("evaluation"), self.budget.timed("evaluation"):
            rows = c.eval.micro_batch or c.run.micro_batch
            found = evaluate(
                self.engine,
                self.validation,
                rows,
                self.world,
                published_batch=c.eval.published_batch,
            )
        record = found.record()
        perplexity = record["val_perplexity"]
        first, _ = self.progress.val_perplexity
        self.progress.val_perplexity = (perplexity if math.isnan(first) else first, perplexity)
        self.progress.validated_step = self.step
        self.telemetry.validation(self.step, record)

    def _flags(self) -> list[float]:
        return self.requests.flags(out_of_time=self.world.is_main and self.budget.spent())

    def _ask(self) -> None:
        """Whether to stop, once more after anything that took long. Collective."""
        flags = torch.tensor(self._flags(), dtype=torch.float64)
        dist.all_reduce(flags, group=self.world.control)
        if self.step < self.config.run.steps and not self.stopped:
            self.stopped = agreed(flags.tolist())
