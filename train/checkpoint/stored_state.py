"""The float32 weights of a checkpoint of either engine and their moments, whole, in one process.

How they lie in the files is `alphadecay.inspect.sources`' to know; here are this program's names
and errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.paths import DCP_METADATA
from alphadecay.inspect.sources import deepspeed_state
from alphadecay.inspect.sources.dcp import open_dcp
from alphadecay.inspect.sources.deepspeed_state import OptimizerState, StoredWeight
from train.checkpoint.safe_load import safe_load
from train.errors import UserError


def read_masters(state: Path) -> dict[str, Tensor]:
    """Read every weight: name in the bare model -> float32 [its shape], tied names both.

    Args:
        state: the folder that the engine wrote.

    Raises:
        UserError: a layout that this version does not know, or a file that is broken.
    """
    with _as_user_errors():
        return {name: stored.read() for name, stored in open_masters(state).items()}


def open_masters(state: Path) -> dict[str, StoredWeight]:
    """Find every weight in the files, to be read one by one; arguments and errors as
    `read_masters`.
    """
    with _as_user_errors():
        if not (state / DCP_METADATA).is_file():
            return deepspeed_state.open_masters(state)
        stored = open_dcp(state)
    if stored.broken:
        name, reason = next(iter(stored.broken.items()))
        raise UserError(f"{state}: {name}: {reason}")
    return {
        name: StoredWeight(torch.Size(tensor.shape), tensor.read)
        for name, tensor in stored.tensors.items()
    }


def open_optimizer(state: Path) -> OptimizerState:
    """Find every weight and its moments in the files of ZeRO stage 1 to 3.

    Raises:
        UserError: a layout that this version does not know.
        KeyError: an optimizer without moments.
    """
    with _as_user_errors():
        return deepspeed_state.open_optimizer(state, partial(safe_load, mmap=True))


@contextmanager
def _as_user_errors() -> Iterator[None]:
    try:
        yield
    except InspectError as error:
        raise UserError(str(error)) from error
