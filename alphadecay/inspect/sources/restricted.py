"""Loads what torch.save wrote by torch's restricted loader, which runs no code.

Allowed are tensors, plain values and stand-ins for the few classes of DeepSpeed's that its
checkpoints hold: the file is read without deepspeed.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar, Generic, TypeVar

import torch

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources.source import first_line

T = TypeVar("T")
_AT_ONCE = 1 << 30  # bytes read of a mapped file before it is mapped anew


class _StandIn:
    """Takes the state of an object of DeepSpeed's, for nobody to look at."""

    def __init__(self, *args: Any) -> None:
        self.args = args


def _member(kind: Any, name: str) -> Any:
    """Some releases of Python write a member of an enumeration as getattr(class, name)."""
    if kind is not _StandIn:
        raise ValueError(f"it asks for {name} of {kind}, which is no plain value")
    return name


# With DeepSpeed's own names of them.
_STAND_INS: tuple[Any, ...] = (
    (_StandIn, "deepspeed.runtime.fp16.loss_scaler.LossScaler"),
    (_StandIn, "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler"),
    (_StandIn, "deepspeed.runtime.zero.config.ZeroStageEnum"),
    (_StandIn, "deepspeed.utils.tensor_fragment.fragment_address"),
    (_member, "builtins.getattr"),
)


def load_restricted(path: Path, allowed: Sequence[Any] = _STAND_INS, mmap: bool = False) -> Any:
    """Load a file that torch.save made, on the CPU.

    Args:
        allowed: classes beyond tensors and plain values, as torch.serialization.safe_globals takes
            them.
        mmap: leave the tensors in the file until they are used.

    Raises:
        pickle.UnpicklingError, ValueError: it holds anything else.
    """
    with torch.serialization.safe_globals(list(allowed)):
        return torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)


def open_mapped(path: Path) -> Any:
    """Load a file of a stranger's, its tensors left in it where it is a zip archive.

    Raises:
        InspectError: it is no file of torch.save's, holds more than tensors and plain values, or is
            compressed, as torch never writes.
    """
    try:
        archive = zipfile.is_zipfile(path)
        if archive:
            _refuse_compressed(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return load_restricted(path, mmap=archive)
    except UnpicklingError as error:
        raise InspectError(
            f"{path} holds more than tensors and plain values, and is not loaded, for it could run "
            f"code{_asked_for(path)}; save the model's state_dict() instead"
        ) from error
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, MemoryError) as error:
        raise InspectError(
            f"{path} cannot be read as a file of torch.save, or is a truncated one: "
            f"{first_line(error)}; fetch it again"
        ) from error


def _refuse_compressed(path: Path) -> None:
    """Refuse an archive that claims more than it holds.

    Raises:
        InspectError: it does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise InspectError(f"{path} is a broken archive: {first_line(error)}") from error
    if claimed > path.stat().st_size:
        raise InspectError(
            f"{path} unpacks to {claimed:,} bytes, more than it has: torch.save compresses nothing"
        )


def _asked_for(path: Path) -> str:
    """Return what of it is not allowed, where that can be told; torch's own words advise to load it
    all the same.
    """
    try:
        with torch.serialization.safe_globals(list(_STAND_INS)):
            asked = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (OSError, RuntimeError, ValueError, UnpicklingError, EOFError):
        asked = []
    return f": it asks for {asked[0]}" if asked else ""


class Mapped(Generic[T]):
    """These are opened files, opened anew now and then: the pages of a mapped file that were read
    stay in memory for as long as it is mapped. Files of one of these are mapped at a time.

    Args:
        reopen: maps the files and returns what they hold.
    """

    _newest: ClassVar[Mapped[Any] | None] = None

    def __init__(self, reopen: Callable[[], T]) -> None:
        self._reopen = reopen
        self._held: T | None = None
        self._left = 0

    def get(self, count: int) -> T:
        """Return what the files hold, of which `count` bytes will be read."""
        if Mapped._newest is not self:
            if Mapped._newest is not None:
                Mapped._newest._held = None
            Mapped._newest = self
        if self._held is None or count > self._left:
            self._held = None  # unmapped before it is mapped again
            self._held = self._reopen()
            self._left = _AT_ONCE
        self._left -= count
        return self._held
