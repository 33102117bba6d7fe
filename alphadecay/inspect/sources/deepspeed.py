"""Reads a checkpoint folder of DeepSpeed's, ZeRO stage 0 to 3: the float32 weights.

It is the files that are DeepSpeed's; deepspeed itself is not imported.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.paths import inside
from alphadecay.inspect.sources.deepspeed_state import open_masters
from alphadecay.inspect.sources.restricted import Mapped
from alphadecay.inspect.sources.source import Source, StoredTensor, first_line
from alphadecay.inspect.sources.stored import StoredWeight

LATEST = "latest"  # the file in which DeepSpeed names its newest checkpoint
_STATES = "*_states.pt"
# a forged file may hold anything in anything's place
_READING = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    UnpicklingError,
)


def state_folder(folder: Path) -> Path | None:
    """Return the folder of DeepSpeed's files that is meant: itself, or that which `latest` names;
    None where there is none.

    Raises:
        InspectError: `latest` leads out of the folder.
    """
    if any(folder.glob(_STATES)):
        return folder
    pointer = folder / LATEST
    if not pointer.is_file():
        return None
    named = inside(folder, pointer.read_text(encoding="utf-8", errors="replace")[:1000].strip())
    return named if any(named.glob(_STATES)) else None


def open_deepspeed(folder: Path) -> Source:
    """Return the float32 weights in a folder of DeepSpeed's files.

    Raises:
        InspectError: a layout that this version does not know, or files that cannot be read.
    """
    files = [inside(folder, file.name) for file in sorted(folder.glob(_STATES))]
    if parallel := sorted(folder.glob("mp_rank_01_*")):
        raise InspectError(
            f"{folder} was written by tensor or pipeline parallelism ({parallel[0].name}): each "
            "file holds a part of every weight; export the whole model and give that"
        )
    mapped = Mapped(partial(_open, folder))
    names: dict[int, str] = {}
    tensors = {}
    for name, stored in mapped.get(0).items():
        tied_to = names.setdefault(id(stored), name)
        shape = tuple(stored.shape)
        load = partial(_load, mapped, name, 4 * stored.shape.numel())
        tie = "" if tied_to == name else tied_to
        tensors[name] = StoredTensor(name, shape, torch.float32, load, tie, in_ranges=False)
    return Source(str(folder), "a DeepSpeed checkpoint", tensors, files=tuple(files))


def _open(folder: Path) -> dict[str, StoredWeight]:
    try:
        return open_masters(folder)
    except InspectError:
        raise
    except _READING as error:
        raise InspectError(
            f"{folder} cannot be read as a DeepSpeed checkpoint: {first_line(error)}"
        ) from error


def _load(
    mapped: Mapped[dict[str, StoredWeight]],
    name: str,
    size: int,
    elements: tuple[int, int] | None,
) -> Tensor:
    flat = mapped.get(size)[name].read().flatten()
    return flat if elements is None else flat[slice(*elements)]
