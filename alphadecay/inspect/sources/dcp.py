"""Reads what torch.distributed.checkpoint wrote, whatever the ranks that wrote it.

Its table of contents is a pickle: of it only the classes are found that such a table consists of.
"""

from __future__ import annotations

import math
import pickle
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.paths import DCP_METADATA, inside
from alphadecay.inspect.sources.source import BrokenTensor, Source, StoredTensor, first_line
from alphadecay.inspect.sources.stored import AVERAGE, STEP

MODEL = "model."  # before the name of a weight, as most programs have it
# What a table of contents is pickled of, beside dtypes.
_CONTENTS = "torch.distributed.checkpoint.metadata"
_KNOWN = frozenset(
    {
        (_CONTENTS, "Metadata"),
        (_CONTENTS, "MetadataIndex"),
        (_CONTENTS, "TensorStorageMetadata"),
        (_CONTENTS, "BytesStorageMetadata"),
        (_CONTENTS, "ChunkStorageMetadata"),
        (_CONTENTS, "TensorProperties"),
        (_CONTENTS, "StorageMeta"),
        (_CONTENTS, "_MEM_FORMAT_ENCODING"),
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        ("torch", "Size"),
        ("torch.serialization", "_get_layout"),
        ("pathlib", "PosixPath"),
    }
)
# Parts of a name that say that it is of an optimizer.
_OPTIMIZER = frozenset(
    {"optim", "optimizer", "optimizers", "exp_avg", "exp_avg_sq", "momentum_buffer", "param_groups"}
)


class RestrictedReader(FileSystemReader):
    """Reads a distributed checkpoint's files, and of its pickled table of contents only the classes
    that such a table consists of.
    """

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Read the table of contents.

        Raises:
            pickle.UnpicklingError: it asks for anything else.
        """
        metadata = self.contents
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata

    @cached_property
    def contents(self) -> Metadata:
        """The table of contents, unpickled once."""
        with (Path(self.path) / DCP_METADATA).open("rb") as file:
            metadata: Metadata = _Restricted(file).load()
        return metadata


class _Restricted(pickle.Unpickler):
    """Finds the classes of a table of contents, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if dtype or (module, name) in _KNOWN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(
            f"the checkpoint's {DCP_METADATA} asks for {module}.{name}, which is no part of one"
        )


def open_dcp(folder: Path) -> Source:
    """Return the tensors of a checkpoint but those of an optimizer, without a prefix of them all.

    Raises:
        InspectError: it cannot be read, or names a file outside its folder.
    """
    return _opened(folder, whole=False)


def open_whole_dcp(folder: Path) -> Source:
    """Return every tensor of a checkpoint, an optimizer's too, by its whole name.

    Raises:
        InspectError: it cannot be read, or names a file outside its folder.
    """
    return _opened(folder, whole=True)


def _opened(folder: Path, whole: bool) -> Source:
    try:
        inside(folder, DCP_METADATA)
        return _open(folder, RestrictedReader(folder), whole)
    except InspectError:
        raise
    except Exception as error:  # a broken or forged table raises anything
        raise InspectError(
            f"{folder} cannot be read as a distributed checkpoint: {first_line(error)}"
        ) from error


def _open(folder: Path, reader: RestrictedReader, whole: bool) -> Source:
    files = _files(folder, reader.contents)
    held = sum(file.stat().st_size for file in files)
    keys = {
        key: stored
        for key, stored in reader.contents.state_dict_metadata.items()
        if isinstance(stored, TensorStorageMetadata) and (whole or not _of_an_optimizer(key))
    }
    # ours, and most: the model under a name of its own
    is_named = not whole and all(key.startswith(MODEL) for key in keys)
    prefix = MODEL if is_named else ""
    tensors = {}
    broken = {}
    for key, stored in keys.items():
        name = key.removeprefix(prefix)
        size = math.prod(stored.size) * stored.properties.dtype.itemsize
        if size > held:
            broken[name] = f"it claims {size:,} bytes, its files have {held:,}"
            continue
        load = partial(_load, reader, key, stored)
        dtype = stored.properties.dtype
        tensors[name] = StoredTensor(name, tuple(stored.size), dtype, load, in_ranges=False)
    opened = (folder / DCP_METADATA, *files)
    return Source(str(folder), "a distributed checkpoint", tensors, broken=broken, files=opened)


def _of_an_optimizer(key: str) -> bool:
    parts = key.split(".")
    return parts[0] in (STEP, AVERAGE) or not _OPTIMIZER.isdisjoint(parts)


def _files(folder: Path, contents: Metadata) -> list[Path]:
    """Return the files that the table names and that are there.

    Raises:
        InspectError: one is outside of the folder.
    """
    storage = contents.storage_data if isinstance(contents.storage_data, dict) else {}
    names = {str(getattr(place, "relative_path", "")) for place in storage.values()}
    return [file for name in sorted(names) if (file := inside(folder, name)).is_file()]


def _load(
    reader: RestrictedReader,
    key: str,
    stored: TensorStorageMetadata,
    elements: tuple[int, int] | None,
) -> Tensor:
    weight = torch.empty(stored.size, dtype=stored.properties.dtype)
    try:
        # dcp.load itself warns that it has no ranks, and several threads cannot each hush it
        _load_state_dict({key: weight}, storage_reader=reader, no_dist=True)
    except dcp.CheckpointException as error:
        first = next(iter(error.failures.values()))[0]
        raise BrokenTensor(f"it cannot be read: {first_line(first)}") from error
    flat = weight.flatten()
    return flat if elements is None else flat[slice(*elements)]
