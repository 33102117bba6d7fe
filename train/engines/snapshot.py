"""Takes a rank's state as it would be written, so that it can be written later by another process.

Everything but the tensors' bytes is pickled at once, as torch.save does it; the bytes are copied
into shared memory, each storage once however many tensors look at it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from pickle import Pickler
from typing import Any

import torch
from torch import Tensor
from torch.storage import TypedStorage, UntypedStorage

from train.engines.protocol import WrittenState
from train.system.shared_memory import Arena, aligned

Place = tuple[int, int]  # offset and bytes
# Writes the last file of a checkpoint, from where the archives lie in the others; returns its path.
Closing = Callable[[Mapping[Path, list[Place]]], Path]
_PROTOCOL = 2  # of torch.save; its restricted loader knows no later one


@dataclass(frozen=True)
class Archive:
    """What one torch.save writes.

    Args:
        content: its data.pkl.
        storages: the places of its data/0, data/1, … in the shared memory.
    """

    content: bytes
    storages: tuple[Place, ...]


@dataclass
class Snapshot(WrittenState):
    """A rank's files of a checkpoint that are still to be written.

    Args:
        archives: by path, one after the other in the file.
        closing: what rank 0 does once all ranks' files are written.
        size: bytes of shared memory that it takes.
    """

    archives: dict[Path, list[Archive]] = field(default_factory=dict)
    closing: Closing | None = None
    size: int = 0
    _sources: list[tuple[Tensor, int]] = field(default_factory=list)
    # By identity. They are held: a freed one could give its number to another.
    _storages: dict[int, tuple[UntypedStorage, Place]] = field(default_factory=dict)

    def take(self, path: Path, state: Any) -> None:
        """Take what torch.save would write into a file; its tensors must not change until `copy`.

        An error is noted, not raised.
        """
        self.save(path, lambda: self._take(path, state))

    def take_tensors(self, path: Path, tensors: list[Tensor]) -> None:
        """Take what torch.save would write of each tensor, one after the other in one file."""
        self.save(path, lambda: self._take_tensors(path, tensors))

    def copy(self, arena: Arena) -> None:
        """Copy the tensors' bytes. From here on they may change.

        Raises:
            OSError: there is no memory for them.
        """
        arena.reserve(self.size)
        arena.copy(self._sources)
        self._sources = []
        self._storages = {}

    def _take(self, path: Path, state: Any) -> None:
        buffer = io.BytesIO()
        pickler = _Pickler(buffer, protocol=_PROTOCOL)
        pickler.dump(state)
        places = tuple(self._place_of(storage) for storage in pickler.storages.values())
        self.archives[path] = [Archive(buffer.getvalue(), places)]

    def _take_tensors(self, path: Path, tensors: list[Tensor]) -> None:
        archives = []
        for tensor in tensors:
            source = tensor.detach()
            place = self._new_place(source.nbytes)
            self._sources.append((source, place[0]))
            archives.append(Archive(_content_of(tuple(source.shape), source.dtype), (place,)))
        self.archives[path] = archives

    def _place_of(self, storage: UntypedStorage) -> Place:
        known = self._storages.get(storage._cdata)
        if known is not None:
            return known[1]
        place = self._new_place(storage.nbytes())
        whole = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
        self._sources.append((whole, place[0]))
        self._storages[storage._cdata] = (storage, place)
        return place

    def _new_place(self, size: int) -> Place:
        offset = self.size
        self.size = aligned(offset + size)
        return offset, size


@cache
def _content_of(shape: tuple[int, ...], dtype: torch.dtype) -> bytes:
    """Return the data.pkl of a tensor that has a storage to itself."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=_PROTOCOL).dump(torch.empty(shape, dtype=dtype))
    return buffer.getvalue()


class _Pickler(Pickler):
    """Pickles as torch.save does: a storage is named by its number, and is on the CPU.

    Attributes:
        storages: by identity, in the order of their numbers.
    """

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol=protocol)
        self.storages: dict[int, UntypedStorage] = {}
        self._numbers: dict[int, str] = {}

    def persistent_id(self, obj: Any) -> Any:
        """Return how the file names a storage; None for anything else."""
        if isinstance(obj, TypedStorage):
            storage = obj._untyped_storage
            kind = getattr(torch, obj._pickle_storage_type())
            elements = obj._size()
        elif isinstance(obj, UntypedStorage):
            storage = obj
            kind = UntypedStorage
            elements = obj.nbytes()
        else:
            return None
        self.storages[storage._cdata] = storage
        number = self._numbers.setdefault(storage._cdata, str(len(self._numbers)))
        return ("storage", kind, number, "cpu", elements)
