"""BERT: transformers' BertForSequenceClassification (arXiv 1810.04805)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from train.config import ModelConfig
from train.models.encoder import Encoder, encoder_settings, flops_per_token

if TYPE_CHECKING:
    from transformers import BertConfig, BertForSequenceClassification


class Bert(Encoder):
    """BERT, whose head is a linear layer on the pooler's output."""

    def config(self, model: ModelConfig, sequence_length: int) -> BertConfig:
        """Return transformers' description of the model."""
        # With its class, whose imports do not bear zero.Init's tensors, under which it is built.
        from transformers.models.bert.modeling_bert import BertConfig

        return BertConfig(**encoder_settings(model, sequence_length))

    def bare(self, config: BertConfig) -> BertForSequenceClassification:
        """Build the model of `config` on the current default device."""
        from transformers import BertForSequenceClassification
        from transformers.initialization import no_init_weights

        # it would clear the row of the fill, which a partitioned weight does not show
        with no_init_weights():
            return BertForSequenceClassification(config)

    def flops_per_token(self, model: ModelConfig, sequence_length: int) -> float:
        """Return three times the forward's matmuls, the pooler's among them."""
        width = model.hidden_size
        return flops_per_token(model, sequence_length, width * (width + model.num_labels))


SPEC = Bert()
