"""What the causal language models of transformers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from train.config import ModelConfig

if TYPE_CHECKING:
    from torch import nn

    from train.models.spec import LossOfHead


class CausalLanguageModel:
    """A base for architectures that transformers builds with a language modelling head."""

    def initial_std(self, model: ModelConfig, name: str) -> float:
        """Return init_std for every weight."""
        return model.init_std

    def vocabulary(self, model: ModelConfig) -> int:
        """Return the rows of the embedding."""
        return model.vocab_size

    def layers(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the decoder layers."""
        model: Any = module
        return list(model.base_model.layers)

    def ends(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the embedding of tokens and the head."""
        model: Any = module
        return [model.get_input_embeddings(), model.get_output_embeddings()]

    def restore_buffers(self, module: nn.Module) -> None:
        """Compute the rotary frequencies in float32 again: in bf16 far positions blur."""
        for layer in module.modules():
            if type(layer).__name__.endswith("RotaryEmbedding"):
                rotary: Any = layer
                fresh = type(rotary)(rotary.config)
                for name, buffer in fresh.named_buffers():
                    setattr(layer, name, buffer.to(getattr(layer, name).device))

    def attend_causally(self, module: nn.Module) -> None:
        """Register torch's attention as one that needs no mask."""
        from train.models.causal_attention import attend_causally

        attend_causally(module)

    def fuse_loss(self, module: nn.Module, loss_of_head: LossOfHead) -> None:
        """Have the head compute the loss."""
        from train.models.head_loss import fuse_head_loss

        fuse_head_loss(module, loss_of_head)
