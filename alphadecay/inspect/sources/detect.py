"""Finds out what a path is, and opens it."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.paths import DCP_METADATA
from alphadecay.inspect.run_folder import is_checkpoint, newest_of_run
from alphadecay.inspect.sources.deepspeed import open_deepspeed, state_folder
from alphadecay.inspect.sources.huggingface import open_beside_config, open_folder, weights_of
from alphadecay.inspect.sources.in_memory import open_model
from alphadecay.inspect.sources.own_checkpoint import open_checkpoint
from alphadecay.inspect.sources.source import Source

_FILES = (".safetensors", ".json", ".pt", ".pth", ".bin", ".ckpt", ".tar")
_KINDS = (
    "a Hugging Face folder, a safetensors file or the index of several, a file of torch.save "
    "(.pt, .pth, .bin), a run or a checkpoint of the pre-training program, or a folder of "
    "DeepSpeed's or of torch.distributed.checkpoint's"
)


def open_source(model: str | os.PathLike[str] | nn.Module) -> Source:
    """Open a model: a file, a folder, or a module in memory.

    Raises:
        InspectError: there is none, or it cannot be read; the message says what to give.
    """
    if isinstance(model, nn.Module):
        return open_model(model)
    path = Path(model).expanduser()
    try:
        if path.is_dir():
            return _open_folder(path)
        if path.is_file():
            return _open_file(path)
    except OSError as error:
        raise InspectError(f"{path} cannot be read: {error.strerror or error}") from error
    raise InspectError(f"{path}: no such file or folder; give {_KINDS}")


def _open_file(path: Path) -> Source:
    if path.suffix not in _FILES:
        raise InspectError(
            f"{path}: a model is not read from {path.suffix or 'such'} files; give {_KINDS}"
        )
    return open_beside_config(path)


def _open_folder(folder: Path) -> Source:
    if is_checkpoint(folder):
        return open_checkpoint(folder)
    if (folder / DCP_METADATA).is_file():
        from alphadecay.inspect.sources.dcp import open_dcp  # its imports take a second

        return open_dcp(folder)
    if (weights := weights_of(folder)) is not None:
        return open_folder(folder, weights)
    if (state := state_folder(folder)) is not None:
        return open_deepspeed(state)
    if (newest := newest_of_run(folder)) is not None:
        return open_checkpoint(newest)
    held = sorted(entry.name for entry in folder.iterdir())
    found = ", ".join(held[:5]) + (" and more" if len(held) > 5 else "")
    raise InspectError(f"{folder} holds no model, but {found or 'nothing'}; give {_KINDS}")
