"""Validation: mean loss per token on a fixed set of rows, whatever the world size."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from train.data.rows import IGNORED, Labelled
from train.world import World


@torch.no_grad()
def evaluate(engine: Any, rows: Labelled, micro_batch: int, world: World) -> float:
    """Mean negative log-likelihood in nats per predicted token. Collective: every rank makes the same number of passes.

    Args:
        rows: tokens and labels, the same on every rank.
        micro_batch: rows per rank and pass.
    """
    engine.eval()
    total = torch.zeros(2, dtype=torch.float64, device=world.device)
    stride = micro_batch * world.size
    for start in range(0, len(rows.tokens), stride):
        tokens, labels = _share(rows, start + world.rank * micro_batch, micro_batch)
        tokens, labels = tokens.to(world.device), labels.to(world.device)
        logits = engine(input_ids=tokens).logits[:, :-1].float()
        loss = functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")
        total += torch.stack([loss.double(), (labels[:, 1:] != IGNORED).sum().double()])
    dist.all_reduce(total)
    engine.train()
    return float(total[0] / total[1])


def _share(rows: Labelled, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Rows [start, start + count) and their labels; past the end a row is repeated without labels, so that ranks stay in step."""
    index = torch.arange(start, start + count)
    last = len(rows.tokens) - 1
    tokens, labels = rows.tokens[index.clamp(max=last)], rows.labels[index.clamp(max=last)]
    labels[index > last] = IGNORED  # a copy: indexing with a tensor makes one
    return tokens, labels
