"""Reads a safetensors file: a header of JSON, then the tensors' bytes.

The format's own library maps the file, so that a pass over it holds as many of its pages as there
is memory, and refuses a truncated file as a whole. Here one tensor is in memory, and those in front
of the cut are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources.source import BrokenTensor, Source, StoredTensor

MOST_HEADER = 100_000_000  # bytes, as the format's own library has it
_LENGTH = 8  # bytes of the header's length, little-endian
_METADATA = "__metadata__"
DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def open_safetensors(path: Path) -> Source:
    """Return what the file holds; what lies beyond its end is broken.

    Raises:
        InspectError: it is no such file, or its header cannot be one.
    """
    try:
        entries, start = _header(path)
        held = path.stat().st_size - start
    except OSError as error:
        raise InspectError(f"{path} cannot be read: {error.strerror or error}") from error
    tensors = {}
    broken = {}
    for name, entry in entries.items():
        if name == _METADATA:
            continue
        try:
            tensors[name] = _tensor(path, name, entry, start, held)
        except BrokenTensor as error:
            broken[name] = str(error)
    return Source(str(path), "a safetensors file", tensors, broken=broken, files=(path,))


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header's entries, and where the tensors begin."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if size < _LENGTH or length > min(size - _LENGTH, MOST_HEADER):
            raise InspectError(
                f"{path} is no safetensors file, or a truncated one: it claims a header of "
                f"{length:,} bytes and has {size:,} in all; fetch it again"
            )
        text = file.read(length)
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InspectError(f"{path} is no safetensors file: its header is no JSON") from error
    if not isinstance(entries, dict):
        raise InspectError(f"{path} is no safetensors file: its header is no JSON object")
    return entries, _LENGTH + length


def _tensor(path: Path, name: str, entry: Any, start: int, held: int) -> StoredTensor:
    """Return the tensor of an entry of the header.

    Raises:
        BrokenTensor: the entry contradicts itself, or the file ends before the tensor does.
    """
    try:
        shape = tuple(entry["shape"])
        first, last = entry["data_offsets"]
        dtype = DTYPES.get(entry["dtype"])
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenTensor("its entry in the header has no shape, dtype or place") from error
    if not all(type(number) is int and number >= 0 for number in (*shape, first, last)):
        raise BrokenTensor("its entry in the header holds what is no size")
    if dtype is not None and last - first != math.prod(shape) * dtype.itemsize:
        raise BrokenTensor(
            f"its entry in the header gives {last - first:,} bytes to shape {list(shape)}"
        )
    if last > held:
        raise BrokenTensor(f"the file ends {last - held:,} bytes before it does")
    return StoredTensor(name, shape, dtype, partial(_load, path, dtype, start + first, shape))


def _load(
    path: Path,
    dtype: torch.dtype | None,
    place: int,
    shape: tuple[int, ...],
    elements: tuple[int, int] | None,
) -> Tensor:
    if dtype is None:
        raise BrokenTensor("torch has no such dtype")
    start, stop = elements or (0, math.prod(shape))
    bytes_read = torch.empty((stop - start) * dtype.itemsize, dtype=torch.uint8)
    array: Any = bytes_read.numpy()
    with path.open("rb", buffering=0) as file:
        file.seek(place + start * dtype.itemsize)
        target = memoryview(array)
        while target:
            count = file.readinto(target)
            if not count:
                raise BrokenTensor("the file ends before it does")
            target = target[count:]
    return bytes_read.view(dtype)
