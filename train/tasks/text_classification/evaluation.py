"""Validates on all held-out rows: the loss, and the figures of merit from all predictions.

Every rank predicts its share of the rows; all have all predictions then, and compute the figures
from the same numbers, so that they are the same whatever the world size.

Shapes: R rows of the set, M rows of a micro batch, C outputs of the head.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from train.cluster.distributed import World
from train.config.sentences import Metric
from train.data.sentences.arrays import Sentences
from train.data.sentences.batches import filled
from train.engines.protocol import Engine
from train.tasks.text_classification.scipy_correlations import correlations
from train.tasks.text_classification.sklearn_scores import scores


@torch.no_grad()
def evaluate(
    engine: Engine,
    sentences: Sentences,
    metric: Metric,
    regression: bool,
    length: int,
    micro_batch: int,
    world: World,
) -> dict[str, float]:
    """Return loss and figures. Collective: every rank makes the same number of passes.

    Args:
        length: tokens that rows are filled to; 0 fills those of a pass alike.
        micro_batch: rows per rank and pass, M.
    """
    outputs_RC = predict(engine, sentences, length, micro_batch, world)
    labels_R = torch.from_numpy(sentences.labels)
    return figures(outputs_RC, labels_R, metric, regression)


def predict(
    engine: Engine, sentences: Sentences, length: int, micro_batch: int, world: World
) -> Tensor:
    """Return the head's outputs for every row, float64 [R, C] on the CPU. Collective."""
    count = len(sentences)
    outputs: Tensor | None = None
    with engine.evaluating() as logits_of:
        for start in range(0, count, micro_batch * world.size):
            first = start + world.rank * micro_batch
            # Past the end a row is run again and not counted, so that the ranks stay in step.
            rows = np.arange(first, first + micro_batch, dtype=np.int64).clip(max=count - 1)
            micro = filled(sentences, rows, length, regression=False).to(world.device)
            logits_MC = logits_of(micro.inputs)
            if outputs is None:
                size = (count, logits_MC.shape[1])
                outputs = torch.zeros(size, dtype=torch.float64, device=world.device)
            counted = max(0, min(micro_batch, count - first))
            outputs[first : first + counted] = logits_MC[:counted].double()
    assert outputs is not None  # a set without rows is refused
    dist.all_reduce(outputs)  # the rows of other ranks are zeros
    return outputs.cpu()


def figures(
    outputs_RC: Tensor, labels_R: Tensor, metric: Metric, regression: bool
) -> dict[str, float]:
    """Return what metrics.jsonl says of predictions; scores and correlations in percent.

    Args:
        outputs_RC: of the head, float64.
        labels_R: classes or values, float64.
    """
    if regression:
        predicted_R = outputs_RC[:, 0]
        loss = functional.mse_loss(predicted_R, labels_R)
        found = correlations(predicted_R.numpy(), labels_R.numpy())
    else:
        loss = functional.cross_entropy(outputs_RC, labels_R.long())
        found = scores(outputs_RC.argmax(1).numpy(), labels_R.long().numpy(), metric)
    return {"val_loss": float(loss)} | {f"val_{name}": 100 * each for name, each in found.items()}
