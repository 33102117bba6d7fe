"""What measured: the device, its driver, versions, commit; and what must be set before it does."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from typing import Any

import torch

import alphadecay
from alphadecay.inspect.run.versions import versions
from train.system.cpu_count import cpu_count
from train.system.provenance import ROOT, commit_of, source_hash

ARCHITECTURES = "TORCH_CUDA_ARCH_LIST"
_FEATURES = re.compile(r"(\d+\.\d+)[a-z]+")  # 9.0a: with what later architectures will not have


def readable_architectures(listed: str, capability: tuple[int, int]) -> str:
    """Return the architectures to build for, as DeepSpeed's builder can read them.

    DeepSpeed (0.19) takes each for a number and raises ValueError at 9.0a.

    Args:
        listed: as TORCH_CUDA_ARCH_LIST has it; empty for the device's own.
        capability: of the device.
    """
    return _FEATURES.sub(r"\1", listed) or f"{capability[0]}.{capability[1]}"


def set_architectures(device: torch.device) -> None:
    """Tell the builders of kernels what to build for."""
    if device.type == "cuda":
        listed = os.environ.get(ARCHITECTURES, "")
        capability = torch.cuda.get_device_capability(device)
        os.environ[ARCHITECTURES] = readable_architectures(listed, capability)


def facts(device: torch.device) -> dict[str, Any]:
    """Return what a figure depends on beside the code."""
    found: dict[str, Any] = {
        "device": "CPU",
        "cores": cpu_count(),
        "platform": platform.platform(),
        "commit": commit_of(ROOT),  # empty where the files are there without their history
        "sources": source_hash(ROOT),
        "version": alphadecay.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions() | _more_versions(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "device": properties.name,
            "memory_bytes": properties.total_memory,
            "capability": list(torch.cuda.get_device_capability(device)),
            "cuda": torch.version.cuda,
            "driver": _driver(),
            "architectures": os.environ.get(ARCHITECTURES, ""),
        }
    return found


def _more_versions() -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for package in ("triton", "liger-kernel"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.split("\n")[0].strip()
