"""Models that AlphaDecay could not measure or tell apart, each refused by its weight's name."""

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


def refused(weight: nn.Parameter) -> str:
    with pytest.raises(ValueError, match="AlphaDecay cannot work here") as caught:
        detect(Block(weight))
    return str(caught.value)


def test_weights_without_values_are_refused_by_name() -> None:
    meta = nn.Parameter(torch.ones(2, 2, device="meta"))
    assert "inner.weight is on the meta device and has no values; materialise" in refused(meta)
    with pytest.raises(ValueError, match=r"0\.weight has no shape yet; run the model once"):
        detect(nn.Sequential(nn.LazyLinear(4)))
    complex_ = nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))
    assert "inner.weight is complex; keep its real and imaginary parts" in refused(complex_)


def test_experts_that_differ_by_rank_are_refused_and_replicated_ones_are_not() -> None:
    expert = nn.Parameter(torch.ones(2, 2))
    expert.allreduce = False  # type: ignore[attr-defined]
    expert.group_name = "ep_size_2"  # type: ignore[attr-defined]
    assert "inner.weight is an expert that other ranks hold another of" in refused(expert)
    expert.group_name = "ep_size_1"  # type: ignore[attr-defined]
    detect(Block(expert))


def test_fsdp1_is_refused() -> None:
    class FullyShardedDataParallel(nn.Module):
        """The name is what tells it."""

    with pytest.raises(ValueError, match=r"FSDP1 flattens.*fully_shard"):
        detect(nn.Sequential(FullyShardedDataParallel()))


def test_names_that_collide_once_wrappers_are_left_out() -> None:
    model = nn.Module()
    model.x = nn.Module()
    model.x.weight = nn.Parameter(torch.ones(3, 3))
    model.x.module = nn.Linear(3, 3, bias=False)
    with pytest.raises(ValueError, match=r"x\.weight and x\.module\.weight would both be called"):
        detect(model)
