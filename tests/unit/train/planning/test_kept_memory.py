"""Where a rank keeps freed memory: on CPU cores, with plenty."""

from __future__ import annotations

import pytest
import torch

from train.cluster.distributed import World
from train.planning import kept_memory
from train.planning.device import Device


@pytest.mark.parametrize(
    ("device", "parameters", "kept"),
    [
        ("cpu", 58_000_000, True),
        ("cpu", 368_000_000, False),  # 14.7 GB, where 12 are this rank's
        ("cuda", 58_000_000, False),
    ],
)
def test_it_is_kept_where_there_is_plenty(monkeypatch, device, parameters, kept):
    asked: list[bool] = []
    share = Device("cpu", 12e9, cuda=False, bf16=False)
    monkeypatch.setattr(kept_memory, "this_device", lambda world: share)
    monkeypatch.setattr(kept_memory, "keep_freed_memory", lambda: asked.append(True) or True)
    world = World(0, 0, 1, torch.device(device), None)
    assert kept_memory.keep_memory_where_ample(parameters, world) is kept
    assert asked == [True] * kept
