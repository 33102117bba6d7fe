"""What the encoders of transformers with a head for a whole text have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from train.config import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from train.models.spec import LossOfHead

Form = Literal["roberta", "bert"]
_PAD_IDS: Mapping[Form, int] = MappingProxyType({"roberta": 1, "bert": 0})


def form_of(model: ModelConfig) -> Form:
    """Return the form of a model that is known to be an encoder."""
    return "bert" if model.architecture == "bert" else "roberta"


def pad_id(model: ModelConfig) -> int:
    """Return the token that an encoder takes for fill; RoBERTa counts positions without it."""
    return _PAD_IDS[form_of(model)]


class Encoder:
    """A base for classifiers of text that transformers builds on an encoder."""

    fuses_loss = False
    parts: Mapping[str, str] = MappingProxyType(
        {
            "norms": "LayerNorm",
            "embedding": "word_embeddings",
            "positions": "embeddings",
            "attention": ".attention.",
            "MLP": ".layer.",
            "head": "",  # the head, and BERT's pooler before it
        }
    )

    def initial_std(self, model: ModelConfig, name: str) -> float:
        """Return init_std for every weight."""
        return model.init_std

    def layers(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the encoder layers."""
        model: Any = module
        return list(model.base_model.encoder.layer)

    def ends(self, module: nn.Module) -> Sequence[nn.Module]:
        """Return the embeddings and the head."""
        model: Any = module
        return [model.base_model.embeddings, model.classifier]

    def restore_buffers(self, module: nn.Module) -> None:
        """Number the positions again, which a model without memory does not keep."""
        import torch

        model: Any = module
        embeddings = model.base_model.embeddings
        count = embeddings.position_ids.shape[1]
        with torch.no_grad():
            embeddings.position_ids = torch.arange(
                count, device=embeddings.position_ids.device
            ).expand(1, -1)
            embeddings.token_type_ids = torch.zeros_like(embeddings.position_ids)

    def adapt(self, module: nn.Module, loss_of_head: LossOfHead | None) -> None:
        """Change nothing: the task computes the loss from the logits."""

    def inputs(self, model: ModelConfig, rows: int, positions: int) -> dict[str, Tensor]:
        """Return tokens that are no fill."""
        import torch

        tokens_BL = torch.full((rows, positions), 2, dtype=torch.int64)
        inputs = {"input_ids": tokens_BL, "attention_mask": torch.ones_like(tokens_BL)}
        if form_of(model) == "bert":
            inputs["token_type_ids"] = torch.zeros_like(tokens_BL)
        return inputs

    def logits_of_row(self, model: ModelConfig, positions: int) -> int:
        """Return one for each class."""
        return model.num_labels


def encoder_settings(model: ModelConfig, sequence_length: int) -> dict[str, Any]:
    """Return the settings that configurations of BERT's kind share."""
    positions = model.max_positions or sequence_length
    if form_of(model) == "roberta":
        positions += pad_id(model) + 1  # positions are counted from after the fill's
    return {
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "max_position_embeddings": positions,
        "type_vocab_size": 2 if form_of(model) == "bert" else 1,
        "layer_norm_eps": model.rms_norm_eps,
        "initializer_range": model.init_std,
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": model.dropout,
        "classifier_dropout": model.dropout,
        "num_labels": model.num_labels,
        "problem_type": "regression" if model.num_labels == 1 else "single_label_classification",
        "pad_token_id": pad_id(model),
        "attn_implementation": model.attention,
    }


def layer_weights(model: ModelConfig) -> int:
    """Return the elements of a layer's matrices."""
    width = model.hidden_size
    return 4 * width * width + 2 * width * model.intermediate_size


def flops_per_token(model: ModelConfig, sequence_length: int, head_weights: int) -> float:
    """Return three times the forward's matmuls; the head reads one position of a row.

    Args:
        head_weights: elements of what reads that position.
    """
    scores = 2 * model.hidden_size * sequence_length
    layers = model.num_layers * (layer_weights(model) + scores)
    return 3.0 * 2.0 * (layers + head_weights / sequence_length)
