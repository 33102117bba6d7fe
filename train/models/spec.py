"""Defines what the rest of the program asks of an architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from train.config import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    LossOfHead = Callable[[Tensor, Tensor, Tensor], Tensor]


class ModelSpec(Protocol):
    """An architecture, with the head of its task.

    Its file needs neither torch nor transformers until something is built.

    Attributes:
        parts: part of a report -> word in the names of its parameters; the first that fits counts.
        fuses_loss: whether the head can compute the loss without the logits in memory.
    """

    parts: Mapping[str, str]
    fuses_loss: bool

    def config(self, model: ModelConfig, sequence_length: int) -> Any:
        """Return transformers' description of the model.

        Args:
            sequence_length: positions of a row, the longest the model sees.

        Raises:
            UserError: a setting that the architecture has no place for.
        """

    def bare(self, config: Any) -> nn.Module:
        """Build the model of `config` on the current default device, not yet initialised by us."""

    def flops_per_token(self, model: ModelConfig, sequence_length: int) -> float:
        """Return the model FLOPs of one trained token (arXiv 2204.02311, appendix B).

        Counted is what the model needs, a multiplication and an addition as two, so recomputed
        activations do not count. Attention counts as whole rows, without the half that a causal
        kernel saves, as is usual; the embedding's look-up counts as nothing.
        """

    def initial_std(self, model: ModelConfig, name: str) -> float:
        """Return the standard deviation of a weight's initial values, by its name."""

    def layers(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the decoder layers in their order: alike in shape, and most of the model.

        They are the units in which it is gathered and compiled.
        """

    def ends(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the embedding and the head, which are large and not alike."""

    def restore_buffers(self, module: nn.Module) -> None:
        """Compute buffers again that lost precision when an engine cast the model."""

    def adapt(self, module: nn.Module, loss_of_head: LossOfHead | None) -> None:
        """Have a model with weights compute in the way that suits this program.

        Args:
            loss_of_head: from inputs [N, D] and weight [V, D] of a head and labels [N], -100 where
                a row does not count, to the mean loss, without the logits in memory; None where the
                model's own loss will do.
        """

    def inputs(self, model: ModelConfig, rows: int, positions: int) -> dict[str, Tensor]:
        """Return a micro batch of zeros, as the model takes it in training.

        Args:
            positions: of a row.
        """

    def logits_of_row(self, model: ModelConfig, positions: int) -> int:
        """Return how many logits the head gives for a row."""
