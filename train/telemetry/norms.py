"""Computes norms of the weights from the float32 masters that each rank holds.

No weight is gathered; there is one small all-reduce.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch

from alphadecay.inspect.module_names import layer_and_type
from train.telemetry.shards import Shards, squared_norms


class WeightNorms:
    """Reads the norms when asked, and holds no copy of a weight."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    @torch.no_grad()
    def squares(self) -> dict[str, float]:
        """Return the squared Frobenius norm of every parameter, by name. Collective."""
        sums = self._shards.sums([squared_norms(self._shards.views())])
        return dict(zip(self._shards.names, sums[0].tolist(), strict=True))

    def read(self) -> dict[str, Any]:
        """Return `weight_norm` of all parameters, and `weight_norms` by module type. Collective."""
        by_type: dict[str, float] = defaultdict(float)
        for name, square in self.squares().items():
            by_type[layer_and_type(name)[1]] += square
        norms = {kind: math.sqrt(square) for kind, square in by_type.items()}
        return {"weight_norm": math.sqrt(math.fsum(by_type.values())), "weight_norms": norms}
