"""Models whose weights have no values are refused by name, before anything is measured."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alphadecay import AdamW, AlphaDecay


def refusal(model: nn.Module) -> str:
    parameter = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(ValueError) as raised:
        AlphaDecay(model, AdamW([parameter], weight_decay=0.1))
    return str(raised.value)


def test_lazy_weights() -> None:
    said = refusal(nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(4)))
    assert "1.weight has no shape yet" in said and "run the model once" in said


def test_weights_on_the_meta_device() -> None:
    said = refusal(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, device="meta")))
    assert "1.weight is on the meta device" in said and "materialise" in said


def test_weights_that_fsdp1_flattens() -> None:
    class FullyShardedDataParallel(nn.Linear):
        """Has the name, by which the library knows it without importing it."""

    said = refusal(nn.ModuleDict({"layer": FullyShardedDataParallel(4, 4)}))
    assert "FSDP1" in said and "fully_shard" in said
