"""LAWN and Hyperball under DDP, FSDP2 and HSDP: as in one process, whose steps the unit tests
compare with the formulas. ZeRO and the program's engines: test_every_engine.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from alphadecay import AdamW
from alphadecay.baselines.fixed_norms import FixedNorms
from tests.bench.counting import CountCollectives
from tests.distributed.harness import run_ranks
from tests.distributed.nets import ROWS, STEPS, Net
from tests.distributed.wrapping import wrap

RULES = ("lawn", "hyperball")
FREE = 2


def both(rank: int, world: int, kind: str) -> dict[str, dict[str, Any]]:
    return {rule: trained(rank, world, kind, rule) for rule in RULES}


def trained(rank: int, world: int, kind: str, rule: Any) -> dict[str, Any]:
    model = Net()
    wrapped = wrap(model, kind) if kind else model
    # without a large eps, a gradient near 0 turns rounding into a whole step
    optimizer = AdamW(wrapped.parameters(), lr=1e-2, weight_decay=0.0, eps=1e-3)
    fixed = FixedNorms(wrapped, optimizer, rule=rule, free_steps=FREE, scale=2.0)
    calls = []
    for step in range(STEPS):
        batch = torch.randn(ROWS, 24, generator=torch.Generator().manual_seed(step)).reshape(
            world, -1, 24
        )[rank]
        wrapped(batch).square().mean().backward()
        with CountCollectives() as collectives:
            optimizer.step()
        calls.append(sum(collectives.calls.values()))
        optimizer.zero_grad()
        fixed.step()
    weights = {name: whole(p) for name, p in model.named_parameters()}
    return {"weights": weights, "state": fixed.state_dict(), "calls": calls}


def whole(weight: Any) -> Tensor:
    full: Tensor = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
    return full.detach().clone()


@pytest.mark.parametrize(("world", "kind"), [(2, "ddp"), (3, "fsdp2-columns"), (4, "hsdp")])
def test_equals_one_process(world: int, kind: str) -> None:
    alone = both(0, 1, "")
    ranks = run_ranks(world, both, world, kind)
    groups = 2 if kind == "hsdp" else 1  # of a reduction
    for rule in RULES:
        assert all(rank[rule]["state"] == ranks[0][rule]["state"] for rank in ranks)
        expected = alone[rule]["state"]["norms"]
        assert ranks[0][rule]["state"]["norms"] == pytest.approx(expected, rel=1e-5)
        free = [0] * FREE + [2 * groups] * (STEPS - FREE)
        assert ranks[0][rule]["calls"] == (free if rule == "lawn" else [groups] * STEPS)
        for name, weight in alone[rule]["weights"].items():
            torch.testing.assert_close(
                ranks[0][rule]["weights"][name], weight, rtol=0, atol=5e-6, msg=f"{rule} {name}"
            )


def test_the_tolerance_tells_the_rules_from_none() -> None:
    model = Net()
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.0, eps=1e-3)
    for step in range(STEPS):
        batch = torch.randn(ROWS, 24, generator=torch.Generator().manual_seed(step))
        model(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    found = both(0, 1, "")
    for name in ("up.weight", "down.weight", "few.weight"):
        weights = [
            model.get_parameter(name).detach(),
            *(found[rule]["weights"][name] for rule in RULES),
        ]
        distances = [float((a - b).abs().max()) for a in weights for b in weights if a is not b]
        assert min(distances) > 5e-5
