"""Models whose weights are not there to be measured, each refused by its weight's name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alphadecay.sharding.detect import detect


class Block(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.weight = weight


def test_weights_without_values_are_refused_by_name() -> None:
    meta = nn.Parameter(torch.ones(2, 2, device="meta"))
    with pytest.raises(ValueError, match=r"inner\.weight is on the meta device and has no values"):
        detect(Block(meta))
    with pytest.raises(ValueError, match=r"0\.weight has no shape yet, as it is lazy; run the mod"):
        detect(nn.Sequential(nn.LazyLinear(4)))


def test_fsdp1_is_refused() -> None:
    class FullyShardedDataParallel(nn.Module):
        """The name is what tells it."""

    with pytest.raises(ValueError, match=r"FSDP1 flattens.*fully_shard"):
        detect(nn.Sequential(FullyShardedDataParallel()))
