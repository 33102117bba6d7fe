"""Reads what DeepSpeed wrote by torch's restricted loader, which runs no code.

Allowed are tensors, plain values and a few of DeepSpeed's own classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def safe_load(path: Path, mmap: bool = False) -> Any:
    """Load a file that torch.save made, on the CPU.

    Args:
        mmap: leave the tensors in the file until they are used.

    Raises:
        pickle.UnpicklingError, ValueError: it holds anything else.
    """
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    def member(kind: Any, name: str) -> Any:
        if kind is not ZeroStageEnum:
            raise ValueError(f"{path} asks for {name} of {kind}, which is no plain value")
        return ZeroStageEnum[name]

    # Some releases of Python 3.11 write a member of an enumeration as getattr(class, name).
    allowed: list[Any] = [
        LossScaler,
        DynamicLossScaler,
        ZeroStageEnum,
        fragment_address,
        (member, "builtins.getattr"),
    ]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)
