"""A net of odd shapes, wrapped for several ranks or trained by one process, and the check that both
agree.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from alphadecay import AdamW, AlphaDecay
from tests.distributed.harness import init_deepspeed
from tests.distributed.wrapping import wrap

STEPS = 5
INTERVAL = 3
ROWS = 12


class Net(nn.Module):
    """Odd shapes: 263 rows, fewer rows than ranks, one row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.up = nn.Linear(24, 263)
        self.down = nn.Linear(263, 24)
        self.few = nn.Linear(24, 2)
        self.one = nn.Linear(24, 1)
        self.norm = nn.LayerNorm(24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(self.down(torch.tanh(self.up(x))))
        return self.few(h).sum(-1) + self.one(h).squeeze(-1)


def run(
    rank: int, world: int, kind: str, optimizer_class: type, options: dict[str, Any] | None = None
) -> dict[str, Any]:
    model = Net()
    wrapped = wrap(model, kind) if kind else model
    optimizer = optimizer_class(wrapped.parameters(), lr=1e-2, weight_decay=0.1)
    decay = AlphaDecay(wrapped, optimizer, interval=INTERVAL, **(options or {}))
    history = [(decay.alphas, decay.weight_decays)]
    for step in range(STEPS):
        batch = torch.randn(ROWS, 24, generator=torch.Generator().manual_seed(step)).reshape(
            world, -1, 24
        )[rank]
        wrapped(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if decay.step():
            history.append((decay.alphas, decay.weight_decays))
    weights = {}
    for name, p in model.named_parameters():
        weights[name] = (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone()
    return {
        "weights": weights,
        "history": history,
        "statuses": decay.statuses,
        "elements": decay._attachment.fragments[0].elements,
        "owned": sum(owner == decay._sharding.rank for owner in decay.plan.owners.values()),
    }


def check(ranks: list[dict[str, Any]], alone: dict[str, Any], copies: int) -> None:
    """The ranks agree, and end where one process ends; every element is decayed once on each of so
    many copies.
    """
    first = ranks[0]
    assert (
        alone["statuses"]
        == first["statuses"]
        == {"few.weight": "too_small", "one.weight": "too_small"}
    )
    assert all(repr(rank["history"]) == repr(first["history"]) for rank in ranks)
    # at construction, for step 3 and for step 6
    assert len(first["history"]) == len(alone["history"]) == 3
    for (alphas, decays), (alphas_alone, decays_alone) in zip(
        first["history"], alone["history"], strict=True
    ):
        # The gradients of two ranks are added in another order: 1e-7 relative, before Adam's
        # division.
        assert alphas == pytest.approx(alphas_alone, rel=1e-4, nan_ok=True)
        assert decays == pytest.approx(decays_alone, rel=1e-2)
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(
            first["weights"][name], weight, rtol=0, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}"
        )
    sizes = {name: alone["weights"][name].numel() for name in alone["elements"]}
    assert {name: sum(rank["elements"][name] for rank in ranks) for name in sizes} == {
        n: copies * size for n, size in sizes.items()
    }
    # each module on one rank of all, replicas included
    assert sum(rank["owned"] for rank in ranks) == 4


def zero_engine(world: int, stage: int) -> Any:
    import deepspeed

    init_deepspeed()
    model = Net()
    more = {"stage3_param_persistence_threshold": 0} if stage == 3 else {}
    config = {
        "train_micro_batch_size_per_gpu": ROWS // world,
        "gradient_clipping": 0.0,
        "steps_per_print": 10**9,
        "zero_optimization": {"stage": stage, **more},
    }
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    return deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]
