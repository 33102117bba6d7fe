"""Weights that are not finite are never saved, whatever holds them."""

import math
from types import SimpleNamespace

import pytest
import torch

from tests.unit.train.checkpoint.saving import WORLD, engine, identity, steps
from train import checkpoint
from train.config import CheckpointConfig


def spans(*tensors):
    return SimpleNamespace(
        master_spans=lambda: [SimpleNamespace(tensor=tensor) for tensor in tensors]
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [0, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_bad_element_is_enough(bad, where, dtype):
    tensor = torch.full((7,), 3e38, dtype=dtype)  # its sum would be infinite
    assert checkpoint.weights_are_finite(spans(torch.zeros(0), tensor), WORLD)
    tensor[where] = bad
    assert not checkpoint.weights_are_finite(spans(torch.ones(3), tensor), WORLD)


def test_every_rank_hears_of_another_ranks():
    world = SimpleNamespace(gather=lambda mine: [mine, False])
    assert not checkpoint.weights_are_finite(spans(torch.ones(3)), world)


def test_they_are_not_saved_and_nothing_is_pruned(tmp_path):
    made = engine()
    saver = checkpoint.Saver(
        CheckpointConfig(asynchronous=False, keep=1), tmp_path, made, identity(), WORLD
    )
    saver.save(1, {})
    saver.save(2, {}, prunes=False)
    made.module.weight.data[0, 0] = math.nan
    with pytest.raises(checkpoint.NotFinite, match="not finite after step 3"):
        saver.save(3, {})
    assert steps(tmp_path) == [1, 2]
