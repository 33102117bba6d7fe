"""FLOPs of a token against torch's own count."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from train.config import ModelConfig
from train.models import spec_of
from train.models.build import build_model

SHAPES = [
    ModelConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=88,
        num_layers=3,
        num_heads=4,
        attention="eager",
    ),
    ModelConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        attention="eager",
    ),
]
SHAPES += [replace(SHAPES[1], architecture="qwen3"), replace(SHAPES[0], architecture="gpt2")]


@pytest.mark.parametrize("model", SHAPES, ids=["multi-head", "grouped queries", "qwen3", "gpt2"])
@pytest.mark.parametrize("length", [16, 64])
def test_against_torchs_counter(model, length):
    built = build_model(model, length, seed=1)
    tokens = torch.randint(0, model.vocab_size, (2, length))
    with FlopCounterMode(display=False) as counter:
        built(input_ids=tokens, labels=tokens).loss.backward()
    # The rotary angles are an outer product, which torch counts and the model does not learn
    # through.
    rotary = 2 * (model.hidden_size // model.num_heads // 2) * length
    counted = counter.get_total_flops()
    assert counted - spec_of(model).flops_per_token(model, length) * tokens.numel() in (
        0,
        rotary,
        2 * rotary,
    )


def test_the_60m_model_by_hand():
    weights = 8 * (4 * 512 * 512 + 3 * 512 * 1376) + 512 * 32000
    assert (
        spec_of(ModelConfig()).flops_per_token(ModelConfig(), 256)
        == 6 * weights + 12 * 8 * 512 * 256
    )
