"""DDP, FSDP2 and HSDP against one process: the same alphas and decays, the same weights after steps
on the same gradients.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alphadecay import Adam, AdamW
from tests.distributed.harness import run_ranks
from tests.distributed.nets import check, run


@pytest.mark.parametrize(
    ("world", "kind", "optimizer_class"),
    [
        (2, "ddp", AdamW),
        (2, "fsdp2", AdamW),
        (3, "fsdp2", AdamW),
        (3, "fsdp2-columns", AdamW),
        (2, "fsdp2-columns", Adam),
        (2, "fsdp2", torch.optim.AdamW),
        (4, "hsdp", AdamW),
        (4, "fsdp2", Adam),
    ],
)
def test_equals_one_process(world: int, kind: str, optimizer_class: type) -> None:
    copies = {"ddp": world, "hsdp": 2}.get(kind, 1)
    check(
        run_ranks(world, run, world, kind, optimizer_class), run(0, 1, "", optimizer_class), copies
    )


@pytest.mark.parametrize("options", [{"cautious": True}, {"drives": "both", "lr_ramp": 3}])
@pytest.mark.parametrize("kind", ["ddp", "fsdp2-columns"])
def test_what_happens_around_a_step_equals_one_process(kind: str, options: dict[str, Any]) -> None:
    alone = run(0, 1, "", AdamW, options)
    check(run_ranks(2, run, 2, kind, AdamW, options), alone, 2 if kind == "ddp" else 1)
