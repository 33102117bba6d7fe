"""DDP, FSDP2 and HSDP against one process: the same alphas and decays, the same weights after steps
on the same gradients.
"""

from __future__ import annotations

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


@pytest.mark.parametrize("kind", ["ddp", "fsdp2-columns"])
def test_cautious_decay_equals_one_process(kind: str) -> None:
    alone = run(0, 1, "", AdamW, True)
    check(run_ranks(2, run, 2, kind, AdamW, True), alone, 2 if kind == "ddp" else 1)
