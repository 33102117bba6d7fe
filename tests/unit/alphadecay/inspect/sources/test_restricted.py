"""DeepSpeed's own objects are read as stand-ins, without its classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from alphadecay.inspect.sources.restricted import load_restricted


def test_deepspeeds_objects_become_stand_ins(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    ours = {"w": torch.ones(3), "names": ["a"]}
    theirs = {"scaler": LossScaler(2.0), "stage": ZeroStageEnum(2), "at": fragment_address(3, 1)}
    torch.save({**ours, **theirs}, tmp_path / "x.pt")
    held = load_restricted(tmp_path / "x.pt", mmap=True)
    assert torch.equal(held["w"], ours["w"]) and held["names"] == ["a"]
    assert {type(held[name]).__name__ for name in theirs} == {"_StandIn"}
