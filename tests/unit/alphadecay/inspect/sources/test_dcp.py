"""A distributed checkpoint's table of contents is unpickled without running what it asks for."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from alphadecay.inspect.sources.dcp import METADATA, RestrictedReader


class Hostile:
    """Pickles as a call of os.system."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.made}",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dcp.save(
        {"model.w": torch.arange(6.0).view(2, 3), "step.w": torch.ones(()).bfloat16()},
        checkpoint_id=tmp_path / "state",
        no_dist=True,
    )
    return tmp_path / "state"


def test_what_torch_wrote_is_read(folder: Path) -> None:
    read = {"model.w": torch.empty(2, 3), "step.w": torch.zeros((), dtype=torch.bfloat16)}
    dcp.load(read, storage_reader=RestrictedReader(folder), no_dist=True)
    assert read["model.w"].flatten().tolist() == list(range(6)) and read["step.w"] == 1


@pytest.mark.parametrize(
    "asked",
    [os.system, eval, torch.load, torch.hub.load, dcp.filesystem.FileSystem, dcp.filesystem.os],
)
def test_anything_else_is_refused(folder: Path, asked: Any) -> None:
    name = getattr(asked, "__name__", "os")
    module = "torch.distributed.checkpoint.filesystem" if name == "os" else asked.__module__
    (folder / METADATA).write_bytes(f"c{module}\n{name}\n.".encode())
    with pytest.raises(pickle.UnpicklingError, match="which is no part of one"):
        RestrictedReader(folder).read_metadata()


def test_no_call_is_made(folder: Path, tmp_path: Path) -> None:
    (folder / METADATA).write_bytes(pickle.dumps(Hostile(tmp_path / "made")))
    with pytest.raises(pickle.UnpicklingError):
        RestrictedReader(folder).read_metadata()
    assert not (tmp_path / "made").exists()
