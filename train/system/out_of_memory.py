"""Tells whether an error says that memory ran out: torch, CUDA's libraries and NCCL differ."""

from __future__ import annotations

# Words of RuntimeErrors: of the driver and of NCCL, of cuBLAS, of torch's allocator for CPUs.
_WORDS = ("out of memory", "ALLOC_FAILED", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the device's or the host's memory was too small."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
