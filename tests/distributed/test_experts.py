"""Stacks of experts [E, M, N] that are sharded over experts: every expert is a module, measured and
decayed as in one process.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from alphadecay import AdamW, AlphaDecay
from tests.distributed.harness import run_ranks
from tests.distributed.wrapping import wrap


class Mixture(nn.Module):
    """Every token through all experts; three of them do not divide by two ranks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.inward = nn.Linear(24, 20)
        self.experts = nn.ParameterDict({"down": nn.Parameter(torch.randn(3, 20, 12) / 4)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (
            torch.einsum("bm,emn->ben", torch.tanh(self.inward(x)), self.experts["down"])
            .square()
            .mean()
        )


def run(rank: int, world: int, kind: str) -> dict[str, Any]:
    model = Mixture()
    wrapped = wrap(model, kind) if kind else model
    optimizer = AdamW(wrapped.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(wrapped, optimizer, interval=3)
    for step in range(4):
        batch = torch.randn(12, 24, generator=torch.Generator().manual_seed(step)).reshape(
            world, -1, 24
        )[rank]
        wrapped(batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    weights = {
        n: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone()
        for n, p in model.named_parameters()
    }
    return {"decays": decay.weight_decays, "weights": weights}


@pytest.mark.parametrize(("world", "kind"), [(2, "fsdp2"), (4, "fsdp2"), (4, "hsdp"), (2, "ddp")])
def test_experts_equal_those_of_one_process(world: int, kind: str) -> None:
    alone = run(0, 1, "")
    assert [name for name in alone["decays"] if "experts" in name] == [
        f"experts.down[{expert}]" for expert in range(3)
    ]
    for rank in run_ranks(world, run, world, kind):
        assert rank["decays"] == pytest.approx(alone["decays"], rel=1e-3)
        for name, weight in alone["weights"].items():
            torch.testing.assert_close(
                rank["weights"][name], weight, rtol=0, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )
