"""RoBERTa: transformers' RobertaForSequenceClassification (arXiv 1907.11692)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from train.config import ModelConfig
from train.models.encoder import Encoder, encoder_settings, flops_per_token

if TYPE_CHECKING:
    from transformers import RobertaConfig, RobertaForSequenceClassification


class Roberta(Encoder):
    """RoBERTa, whose head is two linear layers on the first token."""

    def config(self, model: ModelConfig, sequence_length: int) -> RobertaConfig:
        """Return transformers' description of the model."""
        # With its class, whose imports do not bear zero.Init's tensors, under which it is built.
        from transformers.models.roberta.modeling_roberta import RobertaConfig

        settings = encoder_settings(model, sequence_length)
        return RobertaConfig(**settings, bos_token_id=0, eos_token_id=2)

    def bare(self, config: RobertaConfig) -> RobertaForSequenceClassification:
        """Build the model of `config` on the current default device."""
        from transformers import RobertaForSequenceClassification
        from transformers.initialization import no_init_weights

        # it would clear the row of the fill, which a partitioned weight does not show
        with no_init_weights():
            return RobertaForSequenceClassification(config)

    def flops_per_token(self, model: ModelConfig, sequence_length: int) -> float:
        """Return three times the forward's matmuls."""
        width = model.hidden_size
        return flops_per_token(model, sequence_length, width * (width + model.num_labels))


SPEC = Roberta()
