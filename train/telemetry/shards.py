"""Sums over whole parameters of what each rank holds of them: no weight is gathered."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from alphadecay.modules import bare_name, whole_shape
from alphadecay.sharding.base import Span
from train.cluster.distributed import World
from train.engines.protocol import Engine


class Shards:
    """This rank's pieces of the float32 weights.

    Args:
        engine: of any kind of sharding.
        world: this rank.

    Attributes:
        names: of all parameters, in the model's order.
        matrices: names of those of two or more dimensions.
    """

    def __init__(self, engine: Engine, world: World) -> None:
        self._world = world
        parameters = [(bare_name(name), p) for name, p in engine.module.named_parameters()]
        self.names = [name for name, _ in parameters]
        self.matrices = {name for name, p in parameters if len(whole_shape(p)) > 1}
        self._elements = torch.tensor(
            [math.prod(whole_shape(parameter)) for _, parameter in parameters], dtype=torch.float64
        )
        index = {id(parameter): position for position, (_, parameter) in enumerate(parameters)}
        self._spans: list[tuple[int, Span]] = [
            (index[id(span.parameter)], span) for span in engine.master_spans() if span.length
        ]

    def views(self) -> list[Tensor]:
        """Return the pieces, flat, as they are now."""
        return [
            span.tensor.detach().view(-1).narrow(0, span.offset, span.length)
            for _, span in self._spans
        ]

    def sums(self, columns: Sequence[Tensor]) -> Tensor:
        """Return sums over each whole parameter, float64 [columns, names]. Collective.

        Args:
            columns: for each sum its part from each piece, [pieces], in the order of `views`.
        """
        # The last row counts the elements that the others are of.
        found = torch.zeros(len(columns) + 1, len(self.names), dtype=torch.float64)
        if self._spans:
            positions = torch.tensor([position for position, _ in self._spans])
            counts = torch.tensor([span.length for _, span in self._spans], dtype=torch.float64)
            parts = torch.stack([*(column.double().cpu() for column in columns), counts])
            found.index_add_(1, positions, parts)
        if self._world.size > 1:
            dist.all_reduce(found, group=self._world.control)
        # Where ranks hold replicas each element was counted more than once.
        return found[:-1] * self._elements / found[-1].clamp(min=1.0)


def squared_norms(views: Sequence[Tensor]) -> Tensor:
    """Return each piece's squared norm, in float64 where it lies."""
    if not views:
        return torch.zeros(0, dtype=torch.float64)
    return torch.stack(torch._foreach_norm(list(views))).double().square()
