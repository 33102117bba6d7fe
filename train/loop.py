"""The training loop: batches in, steps, refreshes, validations and checkpoints in a fixed order on every rank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from alphadecay import AlphaDecay
from train import checkpoint
from train.config import TrainConfig
from train.data.rows import Labelled
from train.data.sampler import Batches
from train.engine import set_learning_rate
from train.evaluate import evaluate
from train.schedule import learning_rate
from train.telemetry import Telemetry
from train.world import World


@dataclass
class Trainer:
    """One run, built and maybe resumed; `train` takes it to its last step.

    Args:
        decay: AlphaDecay, or None for uniform and none.
        identity: what checkpoints say about this run.
        step: optimizer steps done.
        tokens: real tokens of those steps over all ranks.
        val_perplexity: first and latest.
    """

    config: TrainConfig
    world: World
    engine: Any
    decay: AlphaDecay | None
    batches: Batches
    validation: Labelled
    telemetry: Telemetry
    identity: dict[str, Any]
    folder: Path
    saver: checkpoint.Saver
    step: int = 0
    tokens: int = 0
    val_perplexity: tuple[float, float] = (math.nan, math.nan)
    saved_step: int = -1

    def train(self) -> None:
        """Steps, and what comes between them. Collective."""
        c = self.config
        if self.step == 0:
            if self.decay is not None:
                self.telemetry.refresh(self.decay)
            self._validate()
        while self.step < c.run.steps:
            self.telemetry.begin(self.step + 1)
            values = self._one_step(self.step + 1)
            with self.telemetry.clock.part("refresh"):
                refreshed = self.decay is not None and self.decay.step()
            if self.decay is not None and refreshed:
                self.telemetry.refresh(self.decay)
            self.tokens += self.batches.tokens(self.step)
            self.step += 1
            self.telemetry.train(self.step, values | {"tokens": self.tokens})
            last = self.step == c.run.steps
            if last or (c.eval.every and self.step % c.eval.every == 0):
                self._validate()
            if last or (c.checkpoint.every and self.step % c.checkpoint.every == 0):
                self.save(last)

    def save(self, last: bool = False) -> None:
        """One checkpoint of this step; the last must not fail. Collective."""
        if self.saved_step == self.step:
            return
        with self.telemetry.clock.part("checkpoint"):
            self._save(last)

    def _save(self, last: bool) -> None:
        client_state = {
            "step": self.step,
            "tokens": self.tokens,
            "telemetry": self.telemetry.state_dict(self.step),
            "val_perplexity": list(self.val_perplexity),
            "alphadecay": self.decay.state_dict() if self.decay is not None else None,
        }
        path = self.saver.save(self.step, client_state, last=last)
        if path is not None:
            self.saved_step = self.step
            self.telemetry.message(f"checkpoint {path}")

    def resume(self, found: checkpoint.Checkpoint) -> None:
        """Goes on where `found` was written, with its decays. Collective."""
        state = checkpoint.load(self.engine, found)
        self.step = self.saved_step = int(state["step"])
        self.tokens = int(state["tokens"])
        self.telemetry.load_state_dict(state.get("telemetry", {}))
        first, latest = state["val_perplexity"]
        self.val_perplexity = (first, latest)
        if self.decay is not None and state["alphadecay"] is not None:
            self.decay.load_state_dict(state["alphadecay"])
            if self.decay.last_refresh_step > self.step:  # for the step to come: its line was cut off with that step's
                self.telemetry.refresh(self.decay)

    def _one_step(self, step: int) -> dict[str, float]:
        """One optimizer step over the global batch; batch k of the run belongs to step k + 1."""
        c = self.config
        lr = learning_rate(c.optim, step, c.run.steps)
        set_learning_rate(self.engine, lr)
        losses = []
        part = self.telemetry.clock.part
        with part("data"):
            batch = self.batches.batch(step - 1, self.world.rank, self.world.size, c.run.micro_batch)
        for tokens, labels, scale in batch:
            with part("data"):
                tokens, labels = tokens.to(self.world.device), labels.to(self.world.device)
            with part("forward_backward"):
                loss = self.engine(input_ids=tokens, labels=labels).loss * scale
                self.engine.backward(loss)
            with part("step"):
                self.engine.step()
            losses.append(loss.detach())
        if self.engine.was_step_applied():
            self.telemetry.stepped(lr, self.decay)
        with part("step"):  # the ranks wait for the slowest here
            mean = torch.stack(losses).double().mean()
            dist.all_reduce(mean)
            norm = self.engine.get_global_grad_norm()
        return {"loss": float(mean) / self.world.size, "lr": lr, "grad_norm": math.nan if norm is None else float(norm)}

    def _validate(self) -> None:
        c = self.config
        with self.telemetry.clock.part("evaluation"):
            rows = c.eval.micro_batch or c.run.micro_batch
            found = evaluate(self.engine, self.validation, rows, self.world, published_batch=c.eval.published_batch)
        perplexity = found.record()["val_perplexity"]
        first = self.val_perplexity[0]
        self.val_perplexity = (perplexity if math.isnan(first) else first, perplexity)
        self.telemetry.validation(self.step, found)
