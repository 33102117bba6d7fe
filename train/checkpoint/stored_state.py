"""The float32 weights of a checkpoint of either engine and their moments, whole, in one process.

How they lie in the files is `alphadecay.inspect.sources`' to know; here are this program's names
and errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.paths import DCP_METADATA
from alphadecay.inspect.sources import deepspeed_state
from alphadecay.inspect.sources.dcp import MODEL, open_dcp, open_whole_dcp
from alphadecay.inspect.sources.source import Source
from alphadecay.inspect.sources.stored import MASTER, STEP, OptimizerState, StoredWeight, of_tensor
from train.checkpoint.safe_load import safe_load
from train.engines.by_name import folders_of, is_universal
from train.engines.fsdp2_state import CLIENT_STATE
from train.errors import UserError

_WITH_WEIGHTS = ("module", "optimizer")  # of what DeepSpeed writes beside the client state


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
        if (state / DCP_METADATA).is_file():
            return _weights(state, open_dcp(state))
        if is_universal(state):
            return {place.name: _of_name(place) for place in sorted(folders_of(state))}
        return deepspeed_state.open_masters(state)


def open_optimizer(state: Path) -> OptimizerState:
    """Find every weight and its moments.

    Raises:
        UserError: a layout that this version does not know.
    """
    with _as_user_errors():
        if (state / DCP_METADATA).is_file():
            return _by_parameter(_weights(state, open_whole_dcp(state)))
        return deepspeed_state.open_optimizer(state, partial(safe_load, mmap=True))


def read_client_state(state: Path) -> dict[str, Any]:
    """Return what the training loop had kept beside weights and moments.

    Among it are a few values of DeepSpeed's own, which has them in one file.

    Raises:
        UserError: a layout that this version does not know.
    """
    if (state / DCP_METADATA).is_file():
        return dict(safe_load(state / CLIENT_STATE))
    with _as_user_errors():
        model = deepspeed_state.open_model(state, partial(safe_load, mmap=True))
    return {key: value for key, value in model.items() if key not in _WITH_WEIGHTS}


def _of_name(place: Path) -> StoredWeight:
    """Return the weight of a universal form's parameter."""
    return of_tensor(safe_load(place / f"{MASTER}.pt", mmap=True)["param"])


def _weights(state: Path, stored: Source) -> dict[str, StoredWeight]:
    if stored.broken:
        name, reason = next(iter(stored.broken.items()))
        raise UserError(f"{state}: {name}: {reason}")
    return {
        name: StoredWeight(torch.Size(tensor.shape), tensor.read)
        for name, tensor in stored.tensors.items()
    }


def _by_parameter(stored: Mapping[str, StoredWeight]) -> OptimizerState:
    """Sort what an FSDP2 engine wrote as model.NAME, exp_avg.NAME and the like."""
    names = [key.removeprefix(MODEL) for key in stored if key.startswith(MODEL)]
    parameters: dict[str, dict[str, StoredWeight]] = {name: {} for name in names}
    for key, weight in stored.items():
        kind, _, name = key.partition(".")
        if kind != STEP:
            parameters[name][MASTER if f"{kind}." == MODEL else kind] = weight
    counts = [weight for key, weight in stored.items() if key.startswith(f"{STEP}.")]
    return OptimizerState(parameters, counts[0].read() if counts else None, [], {})


@contextmanager
def _as_user_errors() -> Iterator[None]:
    try:
        yield
    except InspectError as error:
        raise UserError(str(error)) from error
