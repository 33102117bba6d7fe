"""Defines what the rest of the program asks of an architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from train.config import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    LossOfHead = Callable[[Tensor, Tensor, Tensor], Tensor]


class ModelSpec(Protocol):
    """An architecture. Its file needs neither torch nor transformers until something is built.

    Attributes:
        parts: part of a report -> word in the names of its parameters; the first that fits counts.
    """

    parts: Mapping[str, str]

    def config(self, model: ModelConfig, sequence_length: int) -> Any:
        """Return transformers' description of the model.

        Args:
            sequence_length: tokens in a row, the longest the model sees.

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

    def vocabulary(self, model: ModelConfig) -> int:
        """Return how many pieces a tokenizer may have."""

    def layers(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the decoder layers in their order: alike in shape, and most of the model.

        They are the units in which it is gathered and compiled.
        """

    def ends(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the embedding and the head, which are large and not alike."""

    def restore_buffers(self, module: nn.Module) -> None:
        """Compute buffers again that lost precision when an engine cast the model."""

    def attend_causally(self, module: nn.Module) -> None:
        """Have attention be causal without a mask, and without asking the device for one.

        That is right for the rows of this program, and not for those that are filled on the left.
        """

    def fuse_loss(self, module: nn.Module, loss_of_head: LossOfHead) -> None:
        """Have the model compute its loss without holding the logits in memory.

        Without labels it returns logits as before.

        Args:
            loss_of_head: from inputs [N, D] and weight [V, D] of the head and labels [N], -100
                where a row does not count, to the mean loss.
        """
