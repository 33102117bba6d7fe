"""The size of logits: the bound against attention worked out whole, and the output's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from train.cluster.distributed import World
from train.config import ModelConfig
from train.models.build import build_model
from train.telemetry.logits import LogitGrowth

HERE = World(0, 0, 1, torch.device("cpu"))
LENGTH = 12
LLAMA = ModelConfig(vocab_size=67, hidden_size=36, intermediate_size=52, num_layers=2, num_heads=3)
QWEN = ModelConfig(
    architecture="qwen3",
    vocab_size=67,
    hidden_size=36,
    intermediate_size=52,
    num_layers=2,
    num_heads=3,
)

GPT2 = ModelConfig(
    architecture="gpt2",
    vocab_size=67,
    hidden_size=36,
    intermediate_size=52,
    num_layers=2,
    num_heads=3,
)


def largest_logits(model: Any, config: ModelConfig, inputs: torch.Tensor) -> list[float]:
    """Each layer's largest attention logit, of queries and keys as attention gets them."""
    found: list[float] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def seen(query: torch.Tensor, key: torch.Tensor, *more: Any, **options: Any) -> torch.Tensor:
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        found.append(float(scores.abs().max()))
        result: torch.Tensor = attend(query, key, *more, **options)
        return result

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.nn.functional, "scaled_dot_product_attention", seen)
        model(input_ids=inputs)
    return found


@pytest.mark.parametrize("config", [LLAMA, QWEN, GPT2])
@torch.no_grad()
def test_the_bound_holds_and_is_near(config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = build_model(config, LENGTH, seed=7)
    for name, p in model.named_parameters():
        if "q_proj" in name or "k_proj" in name:
            p.mul_(20)  # so that logits are no longer near 0
        if name.endswith("c_attn.weight"):
            p[:, :72].mul_(20)  # queries and keys
            p[:, 72:].mul_(1000)  # which are not to be taken for values
    growth = LogitGrowth(model, HERE, on=True)
    batches = [torch.randint(0, 67, (3, LENGTH)) for _ in range(2)]
    with growth.watching():
        outputs = [model(input_ids=batch).logits for batch in batches]
    found = growth.read()
    assert found["output_logit_max"] == pytest.approx(
        max(float(logits.abs().max()) for logits in outputs), rel=1e-6
    )
    seen = zip(*(largest_logits(model, config, batch) for batch in batches), strict=True)
    bounds = list(found["attention_logit_bound"].values())
    assert len(bounds) == 2
    for bound, logits in zip(bounds, seen, strict=True):
        assert max(logits) <= bound * (1 + 1e-5) and bound < 6 * max(logits)
    with growth.watching():
        pass
    assert growth.read() == {}  # each time anew


def test_it_hooks_nothing_where_it_is_off_and_after() -> None:
    model = build_model(LLAMA, LENGTH, seed=7)
    off = LogitGrowth(model, HERE, on=False)
    with off.watching():
        assert not any(layer._forward_hooks for layer in model.modules())
    assert off.read() == {}
    growth = LogitGrowth(model, HERE, on=True)
    with pytest.raises(RuntimeError, match="cut"), growth.watching():
        assert any(layer._forward_hooks for layer in model.modules())
        raise RuntimeError("cut")
    assert not any(layer._forward_hooks for layer in model.modules())
