"""Validates on all held-out images: loss, and how often the label is among the first guesses.

The figures are the same whatever the world size.

Shapes: R images of the set, M rows of a micro batch, C classes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from train.cluster.distributed import World
from train.data.images.held_out import read_in_turn
from train.data.images.image_set import ImageSet
from train.data.images.transforms import Transforms
from train.engines.protocol import Engine

GUESSES = 5


@torch.no_grad()
def evaluate(
    engine: Engine,
    images: ImageSet,
    transforms: Transforms,
    micro_batch: int,
    world: World,
    pool: ThreadPoolExecutor,
) -> tuple[float, float, float]:
    """Return the mean loss, and the percentages whose label is the first guess and among the first.

    Collective: every rank makes the same number of passes.

    Args:
        micro_batch: rows per rank and pass, M.
        pool: threads that read images.
    """
    count = len(images.labels)
    figures = torch.zeros(count, 3, dtype=torch.float64, device=world.device)
    step = micro_batch * world.size
    firsts = [start + world.rank * micro_batch for start in range(0, count, step)]
    shares = [
        np.arange(first, first + micro_batch, dtype=np.int64).clip(max=count - 1)
        for first in firsts
    ]
    with engine.evaluating() as logits_of:
        reading = read_in_turn(images, transforms, shares, pool)
        for first, (pixels, labels) in zip(firsts, reading, strict=True):
            logits = logits_of({"pixel_values": pixels.to(world.device)})
            # Past the end an image is run again and not counted, so that the ranks stay in step.
            counted = max(0, min(micro_batch, count - first))
            of_rows = row_figures(logits, labels.to(world.device))
            figures[first : first + counted] = of_rows[:counted]
    dist.all_reduce(figures)
    loss, right, among = figures.sum(0).tolist()
    return loss / count, 100 * right / count, 100 * among / count


def row_figures(logits_MC: Tensor, labels_M: Tensor) -> Tensor:
    """Return the loss of every row, and whether its label is the first guess and among the first.

    Returns:
        float64 [M, 3].
    """
    wide = logits_MC if logits_MC.dtype == torch.float64 else logits_MC.float()
    losses = functional.cross_entropy(wide, labels_M, reduction="none")
    guesses = wide.topk(min(GUESSES, wide.shape[1]), dim=1).indices
    right = guesses == labels_M[:, None]
    return torch.stack([losses.double(), right[:, 0].double(), right.any(1).double()], dim=1)
