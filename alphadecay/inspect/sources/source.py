"""What every format gives: named tensors that lie in files, or in a model in memory."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from alphadecay.inspect.errors import InspectError

# (start, stop) of the flattened tensor, or None for all of it -> those elements, flat
Load = Callable[[tuple[int, int] | None], Tensor]
_READING = (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError, MemoryError)


class BrokenTensor(InspectError):
    """A tensor that cannot be read; the message says why."""


@dataclass(frozen=True)
class StoredTensor:
    """This is a tensor that lies somewhere.

    Args:
        name: in the state dict.
        shape: its whole shape.
        dtype: None for one that torch does not have.
        load: reads a range of its elements.
        tied_to: the name of an earlier tensor that is the same storage; empty mostly.
        in_ranges: whether a range costs less than the whole.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype | None
    load: Load = field(repr=False)
    tied_to: str = ""
    in_ranges: bool = True

    @property
    def count(self) -> int:
        """Count the elements."""
        return math.prod(self.shape)

    def read(self, elements: tuple[int, int] | None = None) -> Tensor:
        """Return the elements [start, stop) of the flattened tensor on the CPU, or all of them.

        Raises:
            BrokenTensor: they cannot be read.
        """
        try:
            flat = self.load(elements).detach().flatten()
        except BrokenTensor:
            raise
        except _READING as error:
            raise BrokenTensor(f"it cannot be read: {first_line(error)}") from error
        wanted = self.count if elements is None else elements[1] - elements[0]
        if flat.numel() != wanted:
            raise BrokenTensor(f"{flat.numel():,} elements were read, {wanted:,} are its own")
        return flat


@dataclass(frozen=True)
class Source:
    """This is what a model is read from.

    Args:
        place: the path as it was given, or the model's class.
        form: what it is, such as "a Hugging Face folder".
        tensors: by name.
        config: of the model, as config.json has it; empty where there is none.
        broken: name of a tensor or a file that cannot be read -> why.
        files: all that were opened; their places, sizes and times make the identity.
        model: the model itself where it is in memory.
    """

    place: str
    form: str
    tensors: Mapping[str, StoredTensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    model: nn.Module | None = None

    @property
    def identity(self) -> str:
        """Return a digest of the files' places, sizes and times and of the configuration: another
        where one was written.
        """
        # two checkpoints that an archive kept may have files of one name, size and time
        facts = [
            (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
            for path in self.files
        ]
        known = json.dumps([self.form, facts, self.config], sort_keys=True, default=str)
        return hashlib.sha256(known.encode()).hexdigest()


def named(tensors: Iterable[StoredTensor]) -> dict[str, StoredTensor]:
    """Return tensors by name."""
    return {tensor.name: tensor for tensor in tensors}


def first_line(error: BaseException) -> str:
    """Return what an error says in its first line, at most 200 characters."""
    return (f"{error}".partition("\n")[0] or type(error).__name__)[:200]
