"""A distributed checkpoint's table of contents is unpickled without running what it asks for."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.paths import DCP_METADATA
from alphadecay.inspect.sources import BrokenTensor
from alphadecay.inspect.sources.dcp import RestrictedReader, open_dcp


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
    (folder / DCP_METADATA).write_bytes(f"c{module}\n{name}\n.".encode())
    with pytest.raises(pickle.UnpicklingError, match="which is no part of one"):
        RestrictedReader(folder).read_metadata()


def test_no_call_is_made(folder: Path, tmp_path: Path) -> None:
    (folder / DCP_METADATA).write_bytes(pickle.dumps(Hostile(tmp_path / "made")))
    with pytest.raises(pickle.UnpicklingError):
        RestrictedReader(folder).read_metadata()
    assert not (tmp_path / "made").exists()


def test_a_table_that_names_files_elsewhere_is_refused(folder: Path, tmp_path: Path) -> None:
    with (folder / DCP_METADATA).open("rb") as file:
        contents = pickle.load(file)
    for place in contents.storage_data.values():
        place.relative_path = "../secret"
    (folder / DCP_METADATA).write_bytes(pickle.dumps(contents))
    with pytest.raises(InspectError, match="which is outside of it"):
        open_dcp(folder)


def test_a_tensor_larger_than_its_files_is_not_read(folder: Path) -> None:
    with (folder / DCP_METADATA).open("rb") as file:
        contents = pickle.load(file)
    contents.state_dict_metadata["model.w"].size = torch.Size([10**6, 10**6])
    (folder / DCP_METADATA).write_bytes(pickle.dumps(contents))
    source = open_dcp(folder)
    assert not source.tensors and "it claims 4,000,000,000,000 bytes" in source.broken["w"]


@pytest.mark.parametrize("content", [b"", b"\x80", pickle.dumps({}), pickle.dumps([1])])
def test_what_is_no_table_is_told(content: bytes, folder: Path) -> None:
    (folder / DCP_METADATA).write_bytes(content)
    with pytest.raises(InspectError, match="cannot be read as a distributed checkpoint"):
        open_dcp(folder)


def test_a_missing_file_breaks_its_tensors_alone(folder: Path) -> None:
    source = open_dcp(folder)
    for file in folder.glob("*.distcp"):
        file.unlink()
    with pytest.raises(BrokenTensor):
        source.tensors["w"].read()
