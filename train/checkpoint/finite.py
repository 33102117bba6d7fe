"""Tells whether the weights that a checkpoint would hold are finite."""

from __future__ import annotations

import torch
from torch import Tensor

from train.cluster.distributed import World
from train.engines.protocol import Engine


@torch.no_grad()
def weights_are_finite(engine: Engine, world: World) -> bool:
    """Return whether every weight on every rank is finite. Collective.

    It looks at what the optimizer updates, the float32 masters where there are some: a skipped step
    leaves them as they were, and a step that ruins them may be one that was applied. Every rank
    reads its own slices once and makes no copy.
    """
    return all(world.gather(all(_is_finite(tensor) for tensor in _updated(engine))))


def _updated(engine: Engine) -> list[Tensor]:
    """Return this rank's tensors that the optimizer updates, each once."""
    try:
        tensors = [span.tensor for span in engine.master_spans()]
    except ValueError:  # a layout that the library does not know: the model's own weights
        tensors = list(engine.module.parameters())
    return list({id(tensor): tensor for tensor in tensors}.values())


def _is_finite(tensor: Tensor) -> bool:
    """Return whether every element is finite; a NaN is both the least and the greatest."""
    if not tensor.numel():
        return True
    return bool(torch.stack(torch.aminmax(tensor.detach())).isfinite().all())
