"""Validates on a fixed set of rows: the mean loss per token, and the published code's figure.

The loss is the same whatever the world size. The published figure is biased twice, and tables made
with it compare only with each other. Its mean is over batches, each with the same weight however
many tokens it has; and its count of batches starts at 1, so that the loss comes out n / (n + 1) of
what it is.

Shapes: R rows of the set, M rows of a micro batch, L tokens of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from alphadecay.inspect.run.metrics import perplexity
from train.cluster.distributed import World
from train.data.loading.rows import IGNORED, Labelled
from train.engines.protocol import Engine


@dataclass(frozen=True)
class Validation:
    """The figures of one validation.

    Args:
        loss: mean negative log-likelihood in nats per predicted token.
        published_loss: the published code's figure for the same rows.
        tokens: predicted tokens that counted.
    """

    loss: float
    published_loss: float
    tokens: int

    def record(self) -> dict[str, float]:
        """Return what metrics.jsonl says of it."""
        return {
            "val_loss": self.loss,
            "val_perplexity": perplexity(self.loss),
            "val_loss_published": self.published_loss,
            "val_perplexity_published": perplexity(self.published_loss),
            "val_tokens": self.tokens,
        }


@torch.no_grad()
def evaluate(
    engine: Engine, rows: Labelled, micro_batch: int, world: World, published_batch: int = 512
) -> Validation:
    """Compute the loss on `rows`. Collective: every rank makes the same number of passes.

    Args:
        rows: tokens and labels, int64 [R, L], the same on every rank.
        micro_batch: rows per rank and pass, M.
        published_batch: rows of a batch of the published figure, over all of its ranks.
    """
    figures = _figures(engine, rows, micro_batch, world)
    dist.all_reduce(figures)
    loss, tokens_counted = figures.sum(0).tolist()
    mean = loss / tokens_counted if tokens_counted else float("nan")
    return Validation(mean, published_loss(figures, published_batch), int(tokens_counted))


def _figures(engine: Engine, rows: Labelled, micro_batch: int, world: World) -> Tensor:
    """Return loss and number of predicted tokens of this rank's rows, float64 [R, 2].

    Rows of other ranks are zeros.
    """
    count = len(rows.tokens)
    figures = torch.zeros(count, 2, dtype=torch.float64, device=world.device)
    with engine.evaluating() as logits_of:
        for start in range(0, count, micro_batch * world.size):
            first = start + world.rank * micro_batch
            # Past the end a row is run again and not counted, so that the ranks stay in step.
            index = torch.arange(first, first + micro_batch).clamp(max=count - 1)
            tokens = rows.tokens[index].to(world.device)
            labels = rows.labels[index].to(world.device)
            of_rows = _row_figures(logits_of({"input_ids": tokens}), labels)
            counted = max(0, min(micro_batch, count - first))
            figures[first : first + counted] = of_rows[:counted]
    return figures


def published_loss(figures_R2: Tensor, batch: int) -> float:
    """Return the published code's mean: the batches' mean losses over their number plus one.

    Its ranks' means, equally weighted, are one mean here; that is the same where rows have equally
    many tokens.

    Args:
        figures_R2: loss and number of predicted tokens of every row, float64 [R, 2].
        batch: rows of a batch; the last may be shorter, and counts as one.
    """
    batches = torch.stack([part.sum(0) for part in figures_R2.split(batch)])
    return float((batches[:, 0] / batches[:, 1]).sum() / (len(batches) + 1))


def _row_figures(logits: Tensor, labels: Tensor) -> Tensor:
    """Return summed loss and number of predicted tokens of every row, float64 [M, 2]."""
    targets = labels[:, 1:]
    losses = functional.cross_entropy(
        _wide(logits[:, :-1]).flatten(0, 1),
        targets.flatten(),
        ignore_index=IGNORED,
        reduction="none",
    )
    return torch.stack(
        [losses.view_as(targets).double().sum(1), (targets != IGNORED).sum(1).double()], dim=1
    )


def _wide(logits: Tensor) -> Tensor:
    """Return logits in at least float32: a sum over the vocabulary in 16 bits is not one."""
    return logits if logits.dtype == torch.float64 else logits.float()
