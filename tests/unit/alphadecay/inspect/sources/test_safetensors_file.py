"""safetensors files as the format's own library writes them, and broken and hostile ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources import BrokenTensor, open_source
from alphadecay.inspect.sources.safetensors_file import DTYPES, MOST_HEADER

TENSORS = {"a": torch.arange(12.0).view(3, 4), "b": torch.arange(6).view(2, 3), "c": torch.ones(())}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "model.safetensors"


def write(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_tensors_are_what_the_library_wrote(file: Path) -> None:
    source = open_source(file)
    assert set(source.tensors) == set(TENSORS) and not source.broken
    for name, tensor in source.tensors.items():
        assert tensor.shape == tuple(TENSORS[name].shape) and tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor.read().view(tensor.shape), TENSORS[name])
    assert source.tensors["a"].read((5, 9)).tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("dtype", [*DTYPES.values()], ids=str)
def test_every_dtype_comes_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    count = 2 if dtype is torch.bool else 100
    raw = torch.arange(count * dtype.itemsize, dtype=torch.uint8)
    save_file({"w": raw.view(dtype)}, tmp_path / "w.safetensors")
    tensor = open_source(tmp_path / "w.safetensors").tensors["w"]
    assert tensor.dtype == dtype
    assert torch.equal(tensor.read().view(torch.uint8), raw)


def test_of_a_truncated_file_the_front_is_read(file: Path) -> None:
    whole = file.read_bytes()
    places = json.loads(whole[8 : 8 + struct.unpack("<Q", whole[:8])[0]])
    last = max(TENSORS, key=lambda name: places[name]["data_offsets"][1])
    file.write_bytes(whole[:-1])
    source = open_source(file)
    assert source.broken == {last: "the file ends 1 bytes before it does"}
    for name in set(TENSORS) - {last}:
        assert torch.equal(source.tensors[name].read(), TENSORS[name].flatten())


def test_a_file_that_shrinks_meanwhile_is_broken(file: Path) -> None:
    source = open_source(file)
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(BrokenTensor, match="the file ends before it does"):
        source.tensors["a"].read()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "claims a header of 0 bytes and has 0 in all"),
        (struct.pack("<Q", 10 << 30) + b"{}", "claims a header of 10,737,418,240 bytes"),
        (struct.pack("<Q", 2**64 - 1), "claims a header of 18,446,744,073,709,551,615 bytes"),
        (struct.pack("<Q", 2) + b"[]", "its header is no JSON object"),
        (struct.pack("<Q", 3) + b"{a}", "its header is no JSON"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "its header is no JSON"),
    ],
)
def test_what_is_no_header_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InspectError, match=words):
        open_source(tmp_path / "x.safetensors")


def test_a_header_that_would_fill_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 10 << 30))
    with path.open("r+b") as file:  # a hole: it takes no room
        file.truncate(11 << 30)
    with pytest.raises(InspectError, match="claims a header"):
        open_source(path)
    assert MOST_HEADER < 10 << 30


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 80]}, "gives 80 bytes to shape"),
        ({"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 8]}, "gives 8 bytes"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [100, 108]}, "ends 100 bytes before"),
        ({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}, "what is no size"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}, "what is no size"),
        ({"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}, "what is no size"),
        ({"dtype": "F32", "shape": [2]}, "has no shape, dtype or place"),
        ({"dtype": [], "shape": [2], "data_offsets": [0, 8]}, "has no shape, dtype or place"),
        ("text", "has no shape, dtype or place"),
        (None, "has no shape, dtype or place"),
    ],
)
def test_an_entry_that_lies_is_named(entry: Any, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", {"w": entry}, bytes(8))
    source = open_source(path)
    assert words in source.broken["w"] and not source.tensors


def test_a_dtype_of_another_time_is_named_when_it_is_read(tmp_path: Path) -> None:
    entry = {"dtype": "F4", "shape": [16], "data_offsets": [0, 8]}
    tensor = open_source(write(tmp_path / "x.safetensors", {"w": entry}, bytes(8))).tensors["w"]
    with pytest.raises(BrokenTensor, match="no such dtype"):
        tensor.read()
