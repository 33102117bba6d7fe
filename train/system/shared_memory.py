"""Host memory that a process of our own can read: a state is copied there in one go.

It is anonymous memory behind a file descriptor, not a file below /dev/shm, which is small in
containers.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 64  # bytes; of every piece in it, for any dtype and for whole cache lines
_PORTABLE = 1  # cudaHostRegisterPortable
_MODULUS = 1 << 21  # bytes: a huge page


def can_share_memory() -> bool:
    """Return whether this system has such memory: Linux does, but for old kernels and sandboxes."""
    try:
        os.close(os.memfd_create("alphadecay-checkpoint"))
    except (AttributeError, OSError):
        return False
    return True


def aligned(size: int) -> int:
    """Return the next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class Arena:
    """Shared host memory that is kept and grows; its pages are made once.

    Args:
        device: where the state lies. Of a GPU's, the memory is pinned where CUDA takes it.
        say: takes a line where it does not.

    Attributes:
        capacity: bytes that it has.
        descriptor: what a process needs to map it.
        pinned: whether a GPU copies to it directly.
    """

    def __init__(self, device: torch.device, say: Callable[[str], None] = print) -> None:
        self.capacity = 0
        self.descriptor = os.memfd_create("alphadecay-checkpoint")
        self._device = device
        self._say = say
        self._mapping: mmap.mmap | None = None
        self._bytes = torch.empty(0, dtype=torch.uint8)
        self.pinned = False

    def reserve(self, size: int) -> None:
        """Have room for so many bytes; what it held is no longer to be relied on.

        Raises:
            OSError: there is no such memory.
        """
        if size <= self.capacity:
            return
        self._unmap()
        capacity = -(-size // _MODULUS) * _MODULUS
        os.ftruncate(self.descriptor, capacity)
        self._mapping = mmap.mmap(self.descriptor, capacity)
        with suppress(OSError, AttributeError):  # a kernel without huge pages
            self._mapping.madvise(mmap.MADV_HUGEPAGE)
        self._bytes = torch.frombuffer(self._mapping, dtype=torch.uint8)
        self.capacity = capacity
        self._pin()

    def copy(self, pieces: Iterable[tuple[Tensor, int]]) -> None:
        """Copy tensors to their places, and return once all are there.

        Args:
            pieces: tensors, and offsets that are multiples of ALIGNMENT.
        """
        if self._device.type != "cuda":
            self._copy(pieces)
            return
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            self._copy(pieces)
        stream.synchronize()

    def put(self, content: bytes, offset: int) -> None:
        """Put bytes to their place."""
        assert self._mapping is not None, "nothing is reserved"
        self._mapping[offset : offset + len(content)] = content

    def close(self) -> None:
        """Give the memory back."""
        self._unmap()
        os.close(self.descriptor)

    def _copy(self, pieces: Iterable[tuple[Tensor, int]]) -> None:
        for source, offset in pieces:
            place = self._bytes[offset : offset + source.nbytes]
            if not source.nbytes:
                continue
            if source.device.type == "cpu" and source.is_contiguous():
                # The C library's copy goes past the caches; torch's own reads what it overwrites.
                np.copyto(place.numpy(), source.detach().view(-1).view(torch.uint8).numpy())
            else:
                place.view(source.dtype).view(source.shape).copy_(source, non_blocking=True)

    def _pin(self) -> None:
        """Have CUDA copy to it directly; without, copies are slower and right all the same."""
        if self._device.type != "cuda":
            return
        runtime = torch.cuda.cudart()
        code = runtime.cudaHostRegister(self._bytes.data_ptr(), self.capacity, _PORTABLE)
        self.pinned = int(code) == 0
        if not self.pinned:
            self._say("the memory that checkpoints are copied to is not pinned: CUDA refused")
            with suppress(RuntimeError):  # the next kernel tells of the refusal once more
                torch.zeros(1, device=self._device)

    def _unmap(self) -> None:
        if self._mapping is None:
            return
        if self.pinned:
            torch.cuda.cudart().cudaHostUnregister(self._bytes.data_ptr())
            self.pinned = False
        self._bytes = torch.empty(0, dtype=torch.uint8)  # it holds on to the mapping
        self._mapping.close()
        self._mapping = None
        self.capacity = 0
