"""Runs the training loop: steps, refreshes, validations and checkpoints, in a fixed order.

Every rank does the same in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from train import checkpoint
from train.checkpoint.names import DECAY
from train.cluster.distributed import World
from train.config import TrainConfig
from train.engines.protocol import Engine
from train.errors import UserError
from train.loop.decay_methods import Decay
from train.loop.garbage import collect_if_due, collected_between_steps
from train.loop.hold import make_sure_held
from train.loop.random_state import set_random_state
from train.loop.run_state import Progress, RunState
from train.loop.saves import Saves
from train.loop.schedules import base_decay, learning_rate, momentum
from train.loop.stopping.agreement import Agreed, StopAgreement
from train.loop.stopping.budget import Budget
from train.loop.stopping.diverged import Diverged, note_divergence, way_back
from train.loop.stopping.guard import poison_nonfinite_loss
from train.loop.stopping.signals import StopRequests
from train.loop.stopping.watch import LossWatch
from train.loop.validations import Validations
from train.system.lease import Lease
from train.tasks.task import Task
from train.telemetry.telemetry import Telemetry


@dataclass
class Trainer:
    """One run, built and maybe resumed.

    `train` takes it to its last step, or to the step at which the ranks agree to stop.

    Args:
        decay: the controller of decay.method, or None for uniform and none.
        identity: what checkpoints say about this run.
        requests: what asks this process to stop.
        lease: rank 0's right to write in `folder`; None where nobody else can.
        progress: how far it has come.
        stopped: why it stopped before the last step; empty while it runs and when it is finished.
    """

    config: TrainConfig
    world: World
    engine: Engine
    decay: Decay | None
    task: Task
    telemetry: Telemetry
    identity: dict[str, Any]
    folder: Path
    saver: checkpoint.Saver
    requests: StopRequests = field(default_factory=StopRequests)
    lease: Lease | None = None
    progress: Progress = field(default_factory=Progress)
    stopped: str = ""

    def __post_init__(self) -> None:
        run = self.config.run
        self.supply = self.task.supply(self.telemetry)
        self.watch = LossWatch(self.engine, self.telemetry, run.max_skipped_steps, run.spike_sd)
        self.budget = Budget(run.max_hours)
        self.saves = Saves(self.saver, self.folder, self.world, self.telemetry, self.budget)
        self.stops = StopAgreement(
            self.world, self.requests, self.budget, self.lease, self.saver.part_is_over
        )
        self.validations = Validations(
            self.config,
            self.world,
            self.engine,
            self.task,
            self.telemetry,
            self.progress,
            self.budget,
        )
        self.state = RunState()
        self.state.register("progress", self.progress)
        self.state.register("telemetry", self.telemetry)
        self.state.register("skips", self.watch.skips)
        self.state.register("spikes", self.watch.spikes)
        self.state.register("longest", self.budget)
        if self.decay is not None:
            self.state.register(DECAY, self.decay)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step

    @property
    def saved(self) -> Path | None:
        """The newest checkpoint that it wrote or read; None before the first."""
        return self.saves.path

    def train(self) -> None:
        """Take the steps, and do what comes between them. Collective.

        Raises:
            Diverged: the weights are not finite, or too many steps in a row were skipped.
            UserError: another job has taken output_dir over, or rows that it needs cannot come.
        """
        self.telemetry.loop_begins(self.budget.start)
        if self.decay is not None and self.decay.weight_decays and self.saved is None:
            self._tell_refresh(self.decay)
        self._ask()
        self._between_steps()
        with self.supply:  # its end may take seconds, and a stop's grace is short: save first
            with collected_between_steps():
                while self.step < self.config.run.steps and not self.stopped:
                    self._one_step(self.step + 1)
                    self._between_steps()
                    collect_if_due(self.step)
            self.telemetry.journal.open()
            if self.stopped:
                self.world.run_on_main(lambda: make_sure_held(self.lease))
                if self.step:
                    try:
                        self.save(last=True)
                    except checkpoint.LastNotSaved as failure:  # it goes on from the one before
                        self.telemetry.message(f"warning: {failure}")
        self.saver.close()
        self.supply.check()

    def save(self, last: bool = False) -> None:
        """Write one checkpoint of this step, or begin to; the last must not fail. Collective.

        Raises:
            Diverged: the weights are not finite; nothing was written.
        """
        if last:
            self.saves.settle()
        if self.saves.begun_since(self.step):
            return
        # A streak of skipped steps may be the end of this run: it costs no older checkpoint.
        prunes = not self.watch.skips.in_a_row
        state = {"step": self.step, **self.state.state_dict()}
        try:
            self.saves.save(self.step, state, last, prunes)
        except checkpoint.NotFinite as failure:
            raise self._diverged(f"{failure}.") from failure

    def resume(self, saved: checkpoint.Checkpoint) -> None:
        """Go on where `saved` was written, with its decays and random states. Collective.

        Raises:
            UserError: it holds no state to go on from.
        """
        state = checkpoint.load(self.engine, saved)
        if not checkpoint.weights_are_finite(self.engine, self.world):
            raise UserError(
                f"{saved.path} holds weights that are not finite: the run had diverged before it "
                "was written; name an older one with --resume PATH"
            )
        try:
            self.state.load_state_dict(state)
        except ValueError as error:  # alike on every rank: it is about what was saved
            raise UserError(f"cannot go on from {saved.path}: {error}") from error
        self.saves.gone_on_from(self.step, saved.path)
        if self.decay is not None and self.decay.last_refresh_step > self.step:
            # It is for the step to come: its line was cut off with that step's.
            self._tell_refresh(self.decay)
        rank_state = checkpoint.load_rank_state(saved, self.world.rank)
        if rank_state is not None:
            set_random_state(rank_state)

    def _tell_refresh(self, decay: Decay) -> None:
        first = max(1, decay.last_refresh_step)
        lr = learning_rate(self.config.optim, first, self.config.run.steps)
        self.engine.set_weight_decay(base_decay(self.config, first))  # decays are told of it
        self.telemetry.refresh(decay, lr)

    def _one_step(self, step: int) -> None:
        """Take one optimizer step over the global batch, and do the refresh due after it."""
        self.stopped = self.supply.wait(self.step, self._ask)
        if self.stopped:
            return
        self.telemetry.begin(step)
        with self.budget.timed("step"):
            values, agreed = self._forward_backward_step(step)
        with self.telemetry.clock.part("refresh"):
            refreshed = self.decay is not None and self.decay.step()
        if self.decay is not None and refreshed:
            self.budget.note("refresh", self.decay.last_refresh_seconds)
            self._tell_refresh(self.decay)
        self.telemetry.journal.open()
        self.progress.tokens += self.supply.tokens(self.step)
        self.progress.step = step
        self.stopped = agreed.stop
        self.telemetry.train(step, values | {"tokens": self.progress.tokens})
        if self.watch.note(step, values["loss"]):
            self._give_up()
        if agreed.save_is_over:
            self.saves.advance()
        if refreshed:
            self._ask()

    def _forward_backward_step(self, step: int) -> tuple[dict[str, float], Agreed]:
        """Return the step's figures, and what the ranks agreed on after it.

        Batch k of the run belongs to step k + 1.
        """
        run = self.config.run
        lr = learning_rate(self.config.optim, step, run.steps)
        base = base_decay(self.config, step)
        self.engine.set_learning_rate(lr)
        self.engine.set_weight_decay(base)
        beta = momentum(self.config.optim, step, run.steps)
        self.engine.set_momentum(beta)
        losses = []
        part = self.telemetry.clock.part
        with part("data"):
            batch = self.supply.batch(step - 1)
        for waiting in batch:
            with part("data"):
                micro = waiting.to(self.world.device)
            with part("forward_backward"):
                outputs = self.engine.forward(micro.inputs)
                loss = self.task.loss(outputs, micro.targets) * micro.scale
                self.engine.backward(poison_nonfinite_loss(loss))
            with part("step"):
                self.engine.step()
            losses.append(loss.detach())
        if self.engine.step_was_applied():
            self.telemetry.stepped(lr, base, self.decay, momentum=beta)
        with part("step"):  # the ranks wait for the slowest here
            mean, agreed = self.stops.ask_with_loss(torch.stack(losses).double().mean())
        return {"loss": mean, "lr": lr, "grad_norm": self.engine.gradient_norm()}, agreed

    def _give_up(self) -> None:
        """End the run after too many skipped steps, with a checkpoint if the weights are finite.

        Raises:
            Diverged: always.
        """
        reason = (
            f"{self.watch.skips.in_a_row} steps in a row had a loss or gradient that is not finite "
            "(run.max_skipped_steps)"
        )
        try:
            self.save(last=True)
        except Diverged:
            raise
        except UserError as failure:
            raise self._diverged(f"{reason}; {failure}.") from failure
        raise self._diverged(f"{reason}. Weights are as before those steps.")

    def _diverged(self, reason: str) -> Diverged:
        """Return the error that ends the run for good, and note it for who starts it again.

        Collective: the save on its way, which may be the one to go back to, ends first.
        """
        try:
            self.saves.settle()
        except UserError as failure:
            reason = f"{reason} {failure}."
        message = f"stopped at step {self.step}: {reason} {way_back(self.saved)}"
        if self.world.is_main and not (self.lease and self.lease.lost):
            note_divergence(self.config, message)
        return Diverged(message)

    def _between_steps(self) -> None:
        """Do the validation and the checkpoint that are due after this step. Collective.

        A run that stops puts its validation off: the run that goes on from there makes it first.
        """
        last = self.step == self.config.run.steps
        if last:
            self.stopped = ""  # nothing is left to stop
        for validate in self.validations.due(self.step):
            if not self.stopped:
                validate()
                self._ask()
        every = self.config.checkpoint.every
        due = last or (every > 0 and self.step % every == 0)
        same = self.saves.hold_the_same(self.step, self.watch.skips.in_a_row)
        if due and self.step and not self.stopped and (last or not same):
            self.save(last)
            self._ask()

    def _ask(self) -> str:
        """Ask all ranks whether to stop, once more after anything that took long. Collective."""
        agreed = self.stops.ask()
        if self.step < self.config.run.steps and not self.stopped:
            self.stopped = agreed.stop
        if agreed.save_is_over:
            self.saves.advance()
        return self.stopped
