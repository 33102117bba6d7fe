"""Computes norms of the weights from the float32 masters that each rank holds.

No weight is gathered; there is one small all-reduce.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
import torch.distributed as dist

from alphadecay.inspect.module_names import layer_and_type
from alphadecay.modules import whole_shape
from alphadecay.sharding.base import Span
from train.cluster.distributed import World
from train.engines.protocol import Engine


class WeightNorms:
    """Reads the norms when asked, and holds no copy of a weight.

    Args:
        engine: of any kind of sharding.
        world: this rank.
    """

    def __init__(self, engine: Engine, world: World) -> None:
        self._world = world
        parameters = list(engine.module.named_parameters())
        self._names = [name for name, _ in parameters]
        self._elements = torch.tensor(
            [math.prod(whole_shape(parameter)) for _, parameter in parameters], dtype=torch.float64
        )
        index = {id(parameter): position for position, (_, parameter) in enumerate(parameters)}
        self._spans: list[tuple[int, Span]] = [
            (index[id(span.parameter)], span) for span in engine.master_spans() if span.length
        ]

    @torch.no_grad()
    def squares(self) -> dict[str, float]:
        """Return the squared Frobenius norm of every parameter, by name. Collective."""
        views = [
            span.tensor.detach().view(-1).narrow(0, span.offset, span.length)
            for _, span in self._spans
        ]
        # Row 0 sums squares, row 1 counts the elements they are of.
        sums = torch.zeros(2, len(self._names), dtype=torch.float64)
        if views:
            positions = torch.tensor([position for position, _ in self._spans])
            squares = torch.stack(torch._foreach_norm(views)).double().cpu() ** 2
            counts = torch.tensor([view.numel() for view in views], dtype=torch.float64)
            sums[0].index_add_(0, positions, squares)
            sums[1].index_add_(0, positions, counts)
        if self._world.size > 1:
            dist.all_reduce(sums, group=self._world.control)
        # Where ranks hold replicas each element was counted more than once.
        whole = sums[0] * self._elements / sums[1].clamp(min=1.0)
        return dict(zip(self._names, whole.tolist(), strict=True))

    def read(self) -> dict[str, Any]:
        """Return `weight_norm` of all parameters, and `weight_norms` by module type. Collective."""
        by_type: dict[str, float] = defaultdict(float)
        for name, square in self.squares().items():
            by_type[layer_and_type(name)[1]] += square
        norms = {kind: math.sqrt(square) for kind, square in by_type.items()}
        return {"weight_norm": math.sqrt(math.fsum(by_type.values())), "weight_norms": norms}
