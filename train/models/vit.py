"""ViT: transformers' ViTForImageClassification from config (arXiv 2010.11929), in the form of DeiT
(arXiv 2012.12877): the class token's state goes to a linear head, without a pooler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from train.config import ModelConfig
from train.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import ViTConfig, ViTForImageClassification

    from train.models.spec import LossOfHead

_COLOURS = 3
_DROP_PATH = "drop_path_rate"  # of the configuration, as other models of transformers have it


class ViT:
    """A vision transformer with a head of classes; every patch attends to every other."""

    fuses_loss = False
    parts: Mapping[str, str] = MappingProxyType(
        {
            "embedding": "embeddings",
            "attention": ".attention.",
            "MLP": ".mlp.",
            "head": "classifier",
            "norms": "layernorm",
        }
    )

    def config(self, model: ModelConfig, sequence_length: int) -> ViTConfig:
        """Return transformers' description of the model.

        Args:
            sequence_length: follows from the image and its patches.

        Raises:
            UserError: fewer key/value heads than heads, which a ViT has no place for.
        """
        from transformers import ViTConfig

        if model.num_kv_heads not in (0, model.num_heads):
            raise UserError(
                f"model.num_kv_heads is {model.num_kv_heads}, and vit has as many as heads; leave "
                "it 0"
            )
        options: dict[str, Any] = {
            "attn_implementation": model.attention,
            "num_labels": model.num_labels,
            "problem_type": "single_label_classification",
            _DROP_PATH: model.drop_path,
        }
        return ViTConfig(
            hidden_size=model.hidden_size,
            intermediate_size=model.intermediate_size,
            num_hidden_layers=model.num_layers,
            num_attention_heads=model.num_heads,
            image_size=model.image_size,
            patch_size=model.patch_size,
            num_channels=_COLOURS,
            layer_norm_eps=model.rms_norm_eps,
            initializer_range=model.init_std,
            **options,
        )

    def bare(self, config: ViTConfig) -> ViTForImageClassification:
        """Build the model of `config` on the current default device, with its stochastic depth.

        Its rate grows on a straight line from 0 at the first layer, as DeiT's does.

        Raises:
            UserError: a transformers whose layers have another form.
        """
        from transformers import ViTForImageClassification
        from transformers.initialization import no_init_weights

        from train.models.drop_path import DropPath

        # transformers draws again until all is within bounds, which shapes alone cannot tell;
        # `initialise` draws everything anew
        with no_init_weights():
            model = ViTForImageClassification(config)
        layers: list[Any] = list(self.layers(model))
        rate = getattr(config, _DROP_PATH)
        for number, layer in enumerate(layers):
            if not hasattr(layer, "dropout"):
                raise UserError(
                    "model.architecture vit needs a transformers whose ViT layers drop out both "
                    "branches at their ends, 5.23 or later; update transformers"
                )
            layer.dropout = DropPath(rate * number / max(1, len(layers) - 1))
        return model

    def flops_per_token(self, model: ModelConfig, sequence_length: int) -> float:
        """Return three times the forward's matmuls, a share of patches and head for each position.

        The class token has no patch, and it alone goes to the head.
        """
        width = model.hidden_size
        patches = (model.image_size // model.patch_size) ** 2
        projections = 4 * width * width + 2 * width * model.intermediate_size
        embedding = patches * _COLOURS * model.patch_size**2 * width
        once = (embedding + width * model.num_labels) / (patches + 1)
        attention = 2 * width * (patches + 1)
        return 3.0 * 2.0 * (model.num_layers * (projections + attention) + once)

    def initial_std(self, model: ModelConfig, name: str) -> float:
        """Return init_std for every weight, the class token and the positions.

        DeiT cuts its normal at 2, which is a hundred standard deviations: it is a plain one.
        """
        return model.init_std

    def layers(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the encoder layers."""
        model: Any = module
        return [each for each in model.base_model.modules() if type(each).__name__ == "ViTLayer"]

    def ends(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the embedding of patches and the head."""
        model: Any = module
        return [model.base_model.embeddings, model.classifier]

    def restore_buffers(self, module: nn.Module) -> None:
        """Leave the model as it is: it has no buffers."""

    def adapt(self, module: nn.Module, loss_of_head: LossOfHead | None) -> None:
        """Leave the model as it is: its attention is not causal, its logits are few."""

    def inputs(self, model: ModelConfig, rows: int, positions: int) -> dict[str, Tensor]:
        """Return images without labels: the task computes the loss."""
        import torch

        shape = (rows, _COLOURS, model.image_size, model.image_size)
        return {"pixel_values": torch.zeros(shape)}

    def logits_of_row(self, model: ModelConfig, positions: int) -> int:
        """Return the number of classes."""
        return model.num_labels


SPEC = ViT()
