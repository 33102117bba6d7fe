"""Reads what DeepSpeed wrote by torch's restricted loader, which runs no code.

Allowed are tensors, plain values and a few of DeepSpeed's own classes. A hash tells that a file is
what was written, not who wrote it.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from alphadecay.inspect.sources.restricted import load_restricted
from train.checkpoint.manifest import CONTENTS

# What torch reads at each torch.load: the first overrules its caller, the second may not be there.
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_FORCE_NOT = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def safe_load(path: Path, mmap: bool = False) -> Any:
    """Load a file that torch.save made, on the CPU.

    Args:
        mmap: leave the tensors in the file until they are used.

    Raises:
        pickle.UnpicklingError, ValueError: it holds anything else.
    """
    return load_restricted(path, _allowed(), mmap)


@contextmanager
def restricted() -> Iterator[None]:
    """Hold every torch.load within to what `safe_load` allows, whatever its caller asks for.

    DeepSpeed's own loads ask for full unpickling.
    """
    before = {name: os.environ.pop(name, None) for name in (_FORCE, _FORCE_NOT)}
    os.environ[_FORCE] = "1"
    try:
        with torch.serialization.safe_globals(_allowed()):
            yield
    finally:
        del os.environ[_FORCE]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def why_unsafe(path: Path) -> str:
    """Return what in a file of torch.save is beyond the restricted loader, empty where nothing is.

    Its tensors are not read. The same of the table of contents of FSDP2's shards. A file of another
    form is left to the loader.
    """
    if path.name == CONTENTS:
        return _why_unsafe_contents(path)
    if not zipfile.is_zipfile(path):
        return ""
    try:
        safe_load(path, mmap=True)
    except (UnpicklingError, ValueError, KeyError) as error:
        return _asked_for(path) or f"{error}".partition("\n")[0][:200]
    return ""


def _why_unsafe_contents(path: Path) -> str:
    from alphadecay.inspect.sources.dcp import RestrictedReader

    try:
        RestrictedReader(path.parent).read_metadata()
    except (UnpicklingError, EOFError, AttributeError, IndexError, TypeError) as error:
        return f"{error}"
    return ""


def _asked_for(path: Path) -> str:
    """Return the first class or function that a file asks for and may not have."""
    with torch.serialization.safe_globals(_allowed()):
        asked = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return f"it asks for {asked[0]}" if asked else ""


def _allowed() -> list[Any]:
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    def member(kind: Any, name: str) -> Any:
        if kind is not ZeroStageEnum:
            raise ValueError(f"it asks for {name} of {kind}, which is no plain value")
        return ZeroStageEnum[name]

    # Some releases of Python 3.11 write a member of an enumeration as getattr(class, name).
    return [
        LossScaler,
        DynamicLossScaler,
        ZeroStageEnum,
        fragment_address,
        (member, "builtins.getattr"),
    ]
