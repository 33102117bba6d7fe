"""Has a language model compute its loss inside the head, from the head's inputs.

The loss is computed in the head's own forward, so that whatever gathers the head's weight for it
(ZeRO-3, FSDP2) does so for the loss.

Shapes: B rows of a micro batch, L tokens of a row, D hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional
from transformers.modeling_outputs import CausalLMOutputWithPast

from train.models.chunked_loss import IGNORED

if TYPE_CHECKING:
    from train.models.spec import LossOfHead


def fuse_head_loss(model: Any, loss_of_head: LossOfHead) -> None:
    """Change how a model of transformers computes its loss from labels, and nothing else.

    Without labels it returns logits as before; with labels its logits are None.
    """
    head = model.get_output_embeddings()
    logits_of = head.forward
    plain = model.forward

    def head_forward(hidden_BLD: Tensor, labels_BL: Tensor | None = None) -> Tensor:
        if labels_BL is None:
            return logits_of(hidden_BLD)
        return loss_of_head(hidden_BLD.flatten(0, 1), head.weight, labels_BL.flatten())

    def forward(input_ids: Tensor, labels: Tensor | None = None, **options: Any) -> Any:
        if labels is None:
            return plain(input_ids=input_ids, **options)
        hidden_BLD = model.base_model(input_ids=input_ids, **options).last_hidden_state
        # a position predicts the token after it; the last has none
        targets_BL = functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]
        return CausalLMOutputWithPast(loss=head(hidden_BLD, labels_BL=targets_BL))

    head.forward = head_forward
    model.forward = forward
