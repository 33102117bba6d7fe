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
from train.config import TrainConfig
from train.data.rows import Labelled
from train.data.sampler import Batches
from train.engine import set_learning_rate
from train.errors import UserError
from train.evaluate import evaluate
from train.methods import Decay
from train.rng import random_state, set_random_state
from train.schedule import learning_rate
from train.stopping.budget import Budget
from train.stopping.guard import Skips, Spikes, contagious
from train.stopping.signals import StopRequests, agreed
from train.telemetry.telemetry import Telemetry
from train.world import World


@dataclass
class Trainer:
    """One run, built and maybe resumed; `train` takes it to its last step, or to the step at which
    the ranks agree to stop.

    Args:
        decay: the controller of decay.method, or None for uniform and none.
        identity: what checkpoints say about this run.
        requests: what asks this process to stop.
        step: optimizer steps done, skipped ones included: batch k always belongs to step k + 1.
        tokens: real tokens of those steps over all ranks.
        val_perplexity: first and latest.
        validated_step: of the latest validation.
        saved: the checkpoint it last wrote or read.
        stopped: why it stopped before the last step; empty while it runs and when it is finished.
    """

    config: TrainConfig
    world: World
    engine: Any
    decay: Decay | None
    batches: Batches
    validation: Labelled
    telemetry: Telemetry
    identity: dict[str, Any]
    folder: Path
    saver: checkpoint.Saver
    requests: StopRequests = field(default_factory=StopRequests)
    step: int = 0
    tokens: int = 0
    val_perplexity: tuple[float, float] = (math.nan, math.nan)
    saved_step: int = -1
    validated_step: int = -1
    saved: Path | None = None
    stopped: str = ""

    def __post_init__(self) -> None:
        run = self.config.run
        self.skips = Skips(run.max_skipped_steps)
        self.spikes = Spikes(run.spike_sd)
        self.budget = Budget(run.max_hours)

    def train(self) -> None:
        """Steps, and what comes between them. Collective.

        Raises:
            UserError: too many steps in a row were skipped; a checkpoint has been written.
        """
        if self.decay is not None and self.saved_step < 0:
            self.telemetry.refresh(self.decay)
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
        client_state = {
            "step": self.step,
            "tokens": self.tokens,
            "telemetry": self.telemetry.state_dict(self.step),
            "val_perplexity": list(self.val_perplexity),
            "validated_step": self.validated_step,
            "skips": self.skips.total,  # not skipped_steps: DeepSpeed keeps that name for itself
            "spikes": self.spikes.state_dict(),
            "longest": self.budget.longest,
            "alphadecay": self.decay.state_dict() if self.decay is not None else None,
        }
        path = self.saver.save(self.step, client_state, random_state(), last=last)
        if path is not None:
            self.saved_step = self.step
            self.saved = path
            self.telemetry.message(f"checkpoint {path}")

    def resume(self, found: checkpoint.Checkpoint) -> None:
        """Goes on where `found` was written, with its decays and random states. Collective."""
        state = checkpoint.load(self.engine, found)
        self.step = self.saved_step = int(state["step"])
        self.saved = found.path
        self.tokens = int(state["tokens"])
        self.telemetry.load_state_dict(state.get("telemetry", {}))
        first, latest = state["val_perplexity"]
        self.val_perplexity = (first, latest)
        self.validated_step = int(state["validated_step"])
        self.skips.total = int(state["skips"])
        self.spikes.load_state_dict(state["spikes"])
        self.budget.remember(state["longest"])
        if self.decay is not None and state["alphadecay"] is not None:
            self.decay.load_state_dict(state["alphadecay"])
            # for the step to come: its line was cut off with that step's
            if self.decay.last_refresh_step > self.step:
                self.telemetry.refresh(self.decay)
        own = checkpoint.load_own(found, self.world.rank)
        if own is not None:
            set_random_state(own)

    def _one_step(self, step: int) -> None:
        """One optimizer step over the global batch, and the refresh that is due after it."""
        self.telemetry.begin(step)
        with self.budget.timed("step"):
            values, stop = self._forward_backward_step(step)
        with self.telemetry.clock.part("refresh"), self.budget.timed("refresh"):
            refreshed = self.decay is not None and self.decay.step()
        if self.decay is not None and refreshed:
            self.telemetry.refresh(self.decay)
        self.tokens += self.batches.tokens(self.step)
        self.step = step
        self.stopped = stop
        self.telemetry.train(step, values | {"tokens": self.tokens})
        self._watch(values)
        if refreshed:
            self._ask()

    def _forward_backward_step(self, step: int) -> tuple[dict[str, float], str]:
        """The step's figures, and why to stop after it; batch k of the run belongs to step k + 1."""
        c = self.config
        lr = learning_rate(c.optim, step, c.run.steps)
        set_learning_rate(self.engine, lr)
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
                loss = self.engine(input_ids=tokens, labels=labels).loss * scale
                self.engine.backward(contagious(loss))
            with part("step"):
                self.engine.step()
            losses.append(loss.detach())
        if self.engine.was_step_applied():
            self.telemetry.stepped(lr, self.decay)
        with part("step"):  # the ranks wait for the slowest here
            mean = torch.stack(losses).double().mean().reshape(1)
            # One message for the loss and for the requests to stop.
            message = torch.cat(
                [mean, torch.tensor(self._flags(), dtype=torch.float64, device=mean.device)]
            )
            dist.all_reduce(message)
            loss_sum, *flags = message.tolist()
            norm = self.engine.get_global_grad_norm()
        values = {
            "loss": loss_sum / self.world.size,
            "lr": lr,
            "grad_norm": math.nan if norm is None else float(norm),
        }
        return values, agreed(flags)

    def _watch(self, values: dict[str, float]) -> None:
        """Counts and tells skipped steps and spikes.

        Raises UserError, after a checkpoint, where too many were skipped.
        """
        skipped = not self.engine.was_step_applied()
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
                "(run.max_skipped_steps); stopped at step "
                f"{self.step} with a checkpoint in {self.folder / checkpoint.FOLDER}. Weights are "
                "as before those steps: go on with a "
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
            self.validated_step != self.step
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
        perplexity = found.record()["val_perplexity"]
        first = self.val_perplexity[0]
        self.val_perplexity = (perplexity if math.isnan(first) else first, perplexity)
        self.validated_step = self.step
        self.telemetry.validation(self.step, found)

    def _flags(self) -> list[float]:
        return self.requests.flags(out_of_time=self.world.is_main and self.budget.spent())

    def _ask(self) -> None:
        """Whether to stop, once more after anything that took long. Collective."""
        flags = torch.tensor(self._flags(), dtype=torch.float64)
        dist.all_reduce(flags, group=self.world.control)
        if self.step < self.config.run.steps and not self.stopped:
            self.stopped = agreed(flags.tolist())
