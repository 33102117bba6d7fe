"""Matrices whose rows or columns alternate with others', sharded across them: measured and decayed
as in one process.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from alphadecay import AdamW, AlphaDecay
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.distributed.wrapping import gathered, wrap

WIDTH = 20
HEADS = 5  # heads of 3 × 4 rows: neither two nor three ranks hold whole ones
INNER = 9
SPLITS = {"query_key_value.weight": {"q": 4, "k": 4, "v": 4, "repeat": HEADS}}


class Experts(nn.Module):
    """gate and up in turns, as in gpt-oss."""

    is_transposed = True
    is_concatenated = False

    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(3, WIDTH, 2 * INNER) / 4)
        self.down_proj = nn.Parameter(torch.randn(3, INNER, WIDTH) / 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.einsum("bm,emn->ben", x, self.gate_up_proj)
        inner = torch.tanh(both[..., ::2]) * both[..., 1::2]
        return torch.einsum("ben,enm->bm", inner, self.down_proj)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.experts = Experts()
        with torch.no_grad():  # three spectra
            heads = self.query_key_value.weight.view(HEADS, 3, 4, WIDTH)
            for part in range(3):
                heads[:, part] *= torch.logspace(0, -part, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.query_key_value(x).unflatten(-1, (HEADS, 3, 4))
        return self.experts((heads[:, :, 0] * heads[:, :, 1] + heads[:, :, 2]).flatten(1)).square()


def prepare(kind: str, world: int) -> tuple[Any, AlphaDecay, Any]:
    """The model as it is called, its AlphaDecay, and what steps it."""
    model = Net()
    if kind.startswith("zero"):
        import deepspeed

        init_deepspeed()
        stage = int(kind[-1])
        zero = {"stage": stage} | ({"stage3_param_persistence_threshold": 0} if stage == 3 else {})
        config = {
            "train_micro_batch_size_per_gpu": 12 // world,
            "gradient_clipping": 0.0,
            "steps_per_print": 10**9,
            "zero_optimization": zero,
        }
        optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        engine = deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]
        return engine, AlphaDecay(engine, interval=3, splits=SPLITS), engine
    wrapped = wrap(model, kind) if kind else model
    optimizer = AdamW(wrapped.parameters(), lr=1e-2, weight_decay=0.1)
    return wrapped, AlphaDecay(wrapped, optimizer, interval=3, splits=SPLITS), optimizer


def run(rank: int, world: int, kind: str) -> dict[str, Any]:
    model, decay, stepper = prepare(kind, world)
    first = decay.weight_decays
    for step in range(4):
        source = torch.Generator().manual_seed(step)
        batch = torch.randn(12, WIDTH, generator=source).reshape(world, -1, WIDTH)[rank]
        loss = model(batch).mean()
        if kind.startswith("zero"):
            stepper.backward(loss)
            stepper.step()
        else:
            loss.backward()
            stepper.step()
            stepper.zero_grad()
        decay.step()
    if kind.startswith("zero"):
        weights = gathered(model)
    else:
        weights = {
            name: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone()
            for name, p in model.named_parameters()
        }
    return {"first": first, "decays": decay.weight_decays, "weights": weights}


@pytest.mark.parametrize(("world", "kind"), [(2, "zero1"), (3, "zero3"), (3, "fsdp2")])
def test_sharded_across_heads_equals_one_process(world: int, kind: str) -> None:
    alone = run(0, 1, "")
    assert len(alone["first"]) == 3 + 3 * 3
    assert len({alone["first"][f"query_key_value.weight[{part}]"] for part in "qkv"}) == 3
    for rank in run_ranks(world, run, world, kind):
        assert rank["first"] == pytest.approx(alone["first"], rel=1e-4)
        assert rank["decays"] == pytest.approx(alone["decays"], rel=1e-3)
        for name, weight in alone["weights"].items():
            torch.testing.assert_close(rank["weights"][name], weight, rtol=0, atol=1e-4)
