"""The dry run's bytes of activations and loss, against what a real pass takes."""

from __future__ import annotations

import pytest
import torch

from tests.bench.counting import allocator_peak
from train.config import ModelConfig
from train.models import chunked_loss
from train.planning.activations import loss_bytes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("tokens", "hidden", "rows"),
    [
        pytest.param(2048, 32, 128, id="a chunk decides"),
        pytest.param(64, 256, 64, id="the head's weight decides"),
    ],
)
def test_the_loss_in_chunks_takes_what_is_predicted(
    tokens: int, hidden: int, rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelConfig(vocab_size=4000, hidden_size=hidden)
    monkeypatch.setattr(chunked_loss, "CHUNK", rows * model.vocab_size)
    inputs_ND = torch.randn(tokens, hidden, dtype=dtype, requires_grad=True)
    weight_VD = torch.randn(model.vocab_size, hidden, dtype=dtype, requires_grad=True)
    labels_N = torch.randint(model.vocab_size, (tokens,))

    def loss_and_gradients() -> None:
        chunked_loss.chunked_cross_entropy(inputs_ND, weight_VD, labels_N).backward()

    found = allocator_peak(loss_and_gradients) + inputs_ND.nbytes
    predicted = loss_bytes(model, 1, tokens, dtype == torch.bfloat16, fused=True)
    assert found <= predicted + 64  # a few scalars
    # in float32 a chunk takes nine bytes a logit, not eleven
    assert predicted <= 1.35 * found
