"""Decides what this process computes on: the one owner of "is there a GPU"."""

from __future__ import annotations

import os
from pathlib import Path

_DEVICE_FILES = ("/dev/nvidiactl", "/dev/kfd")  # NVIDIA's and AMD's drivers


def gpu_installed() -> bool:
    """Return whether this machine shows a GPU; needs no torch."""
    return any(Path(file).exists() for file in _DEVICE_FILES)


def uses_cuda() -> bool:
    """Return whether this process computes on a GPU; DS_ACCELERATOR=cpu keeps it off one."""
    import torch

    return torch.cuda.is_available() and os.environ.get("DS_ACCELERATOR") != "cpu"


def has_bf16() -> bool:
    """Return whether the device has bf16 arithmetic."""
    if uses_cuda():
        import torch

        return bool(torch.cuda.is_bf16_supported())
    cpu_info = Path("/proc/cpuinfo")
    flags = cpu_info.read_text() if cpu_info.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
