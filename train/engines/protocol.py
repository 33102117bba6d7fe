"""Defines what the loop, the checkpoints and the telemetry ask of an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from train.engines.average import WeightAverage
    from train.engines.snapshot import Snapshot

LogitsOf = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass
class WrittenState:
    """The files that one rank wrote of a checkpoint.

    Args:
        paths: its files, not yet synced.
        failure: the first error and the folder it happened in; None where all was written.
    """

    paths: list[Path] = field(default_factory=list)
    failure: tuple[Exception, Path] | None = None

    def attempt(self, folder: Path, action: Callable[[], object]) -> None:
        """Run `action` unless something failed before; note its failure instead of raising it.

        A rank that left a save early would leave the others waiting in its barriers.
        """
        if self.failure is not None:
            return
        try:
            action()
        except Exception as error:  # torch raises RuntimeError where the disk is full
            self.failure = (error, folder)

    def save(self, path: Path, action: Callable[[], object]) -> None:
        """Write one file by `action`."""
        self.attempt(path.parent, action)
        self.paths.append(path)


class Engine(Protocol):
    """A model, its optimizer and how both are sharded.

    Attributes:
        module: the model, for names and shapes.
        handle: what AlphaDecay takes for the model.
        dtype: what the model computes in.
        keeps_masters: whether the optimizer keeps float32 weights beside the model's own.
        snapshots: whether its state can be taken by `snapshot_state`.
        average: of the weights over the steps; None where optim.ema is 0.
        layout: how the state is cut up, e.g. {"zero_stage": 3}; a part of a checkpoint's identity.
    """

    module: nn.Module
    handle: Any
    dtype: torch.dtype
    keeps_masters: bool
    snapshots: bool
    average: WeightAverage | None
    layout: dict[str, Any]

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """What AlphaDecay takes for the optimizer; None where the handle brings it."""

    def forward(self, inputs: Mapping[str, Tensor]) -> Any:
        """Return what the model makes of a micro batch. Collective where weights are sharded.

        Args:
            inputs: the model's keywords.
        """

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a micro batch. Collective."""

    def step(self) -> None:
        """Update the weights at an accumulation boundary; do nothing elsewhere. Collective."""

    def step_was_applied(self) -> bool:
        """Return whether the last boundary updated the weights; False where it was skipped."""

    def gradient_norm(self) -> float:
        """Return the global gradient norm of the last boundary, before clipping; NaN if unknown."""

    def set_learning_rate(self, lr: float) -> None:
        """Set the learning rate of every param group."""

    def set_momentum(self, momentum: float) -> None:
        """Set the momentum of every param group; of Adam it is beta1."""

    def set_weight_decay(self, weight_decay: float) -> None:
        """Set the base decay of every param group; a decay method multiplies it at each step."""

    def evaluating(self) -> AbstractContextManager[LogitsOf]:
        """Put the model into evaluation mode and give a function from inputs to logits.

        Collective where weights are sharded: every rank calls the function as often.
        """

    def averaged(self) -> AbstractContextManager[None]:
        """Have the model compute with the average of its weights, and with them again afterwards.

        Nothing is left of it, to the bit. Collective. There is an average.
        """

    def master_spans(self) -> list[Any]:
        """Return where this rank's float32 masters lie, as the library's Spans."""

    def write_state(self, folder: Path, client_state: Mapping[str, Any]) -> WrittenState:
        """Write weights, moments and `client_state` into `folder`. Collective.

        After a failure nothing more is written and nothing is raised, so that no rank leaves the
        others waiting.
        """

    def snapshot_state(self, folder: Path, client_state: Mapping[str, Any]) -> Snapshot:
        """Take what `write_state` would write into `folder`, to be copied before the next step.

        Collective. After a failure nothing is raised, as there.
        """

    def read_state(self, folder: Path) -> dict[str, Any]:
        """Load what `write_state` wrote, and return the client state. Collective."""
