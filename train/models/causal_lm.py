"""What the causal language models of transformers have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from train.config import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from train.models.spec import LossOfHead


class CausalLanguageModel:
    """A base for architectures that transformers builds with a language modelling head."""

    fuses_loss = True

    def initial_std(self, model: ModelConfig, name: str) -> float:
        """Return init_std for every weight."""
        return model.init_std

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

    def adapt(self, module: nn.Module, loss_of_head: LossOfHead | None) -> None:
        """Have attention be causal without a mask, and the head compute the loss.

        The first is right for the rows of this program, and not for those that are filled on the
        left. Without labels the model returns logits as before.
        """
        from train.models.causal_attention import attend_causally
        from train.models.head_loss import fuse_head_loss

        attend_causally(module)
        if loss_of_head is not None:
            fuse_head_loss(module, loss_of_head)

    def inputs(self, model: ModelConfig, rows: int, positions: int) -> dict[str, Tensor]:
        """Return tokens, which are their own labels."""
        import torch

        tokens_BL = torch.zeros(rows, positions, dtype=torch.int64)
        return {"input_ids": tokens_BL, "labels": tokens_BL}

    def logits_of_row(self, model: ModelConfig, positions: int) -> int:
        """Return one for each piece of the vocabulary and position."""
        return positions * model.vocab_size
