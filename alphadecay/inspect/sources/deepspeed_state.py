"""The float32 weights of a DeepSpeed checkpoint and their moments, whole, in one process: from its
files, without ranks, without an engine and without deepspeed.

Its layouts at stages 0 to 3 and that of its BF16_Optimizer (stage 1 in bf16) are read here, by the
restricted loader: DeepSpeed's own tool unpickles in full. Files are mapped, not read, so that a
weight costs what it weighs.

A flattened group lies in pieces, one a rank or one a sub-group, padded at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources import deepspeed_stage_0
from alphadecay.inspect.sources.restricted import load_restricted
from alphadecay.inspect.sources.stored import (
    MASTER,
    STEP,
    OptimizerState,
    StoredWeight,
    cut,
    moments_of,
    unflatten,
)

LoadFile = Callable[[Path], Any]  # reads a file of torch.save, its tensors mapped

_MODEL = "mp_rank_00_model_states.pt"  # ZeRO-3 writes one per rank instead
_PARTITIONS = "single_partition_of_fp32_groups"
_SUB_GROUPS = "fp32_flat_groups"


def _load(path: Path) -> Any:
    return load_restricted(path, mmap=True)


def open_masters(state: Path) -> dict[str, StoredWeight]:
    """Find every weight in the files, to be read one by one: name in the bare model -> the weight,
    tied names both.

    Args:
        state: the folder that the engine wrote.

    Raises:
        InspectError: a layout that this version does not know.
    """
    model, optimizers = _open(state, _load)
    if optimizers:
        weights = _with_ties(_sharded(model, optimizers, MASTER), model)
    else:
        weights = deepspeed_stage_0.masters_of(model)
    return {_bare(name): weight for name, weight in weights.items()}


def open_optimizer(state: Path, load: LoadFile = _load) -> OptimizerState:
    """Find every weight and its moments in the files of ZeRO stage 0 to 3.

    Args:
        load: reads a file; what it makes of DeepSpeed's own objects stands in `others`.

    Raises:
        InspectError: a layout that this version does not know.
    """
    model, optimizers = _open(state, load)
    if not optimizers:
        return deepspeed_stage_0.optimizer_of(model)
    parameters: dict[str, dict[str, StoredWeight]] = {}
    inner = _inner(optimizers[0])
    first = inner["state"].get(0, {})  # none before the first step
    for kind in (MASTER, *moments_of(first)):
        for name, weight in _sharded(model, optimizers, kind).items():
            parameters.setdefault(name, {})[kind] = weight
    return OptimizerState(
        parameters, first.get(STEP), list(inner["param_groups"]), dict(optimizers[0])
    )


def open_model(state: Path, load: LoadFile = _load) -> Mapping[str, Any]:
    """Return what the first rank wrote of the model, and what was to be kept beside it.

    Raises:
        InspectError: there is none.
    """
    return _open(state, load)[0]


def _open(state: Path, load: LoadFile) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Return what the first rank wrote of the model, and each of its optimizer; none at stage 0."""
    shards = sorted(state.glob("*zero_pp_rank_*_optim_states.pt"), key=_rank)
    optimizers = [load(path)["optimizer_state_dict"] for path in shards]
    _check_count(state, optimizers)
    if (state / _MODEL).is_file():
        return load(state / _MODEL), optimizers
    if optimizers and all(_SUB_GROUPS in optimizer for optimizer in optimizers):
        first = min(state.glob("zero_pp_rank_*_model_states.pt"), key=_rank)
        return load(first), optimizers
    raise InspectError(
        f"{state} holds no weights that this version can read: neither {_MODEL} nor "
        "*_optim_states.pt of ZeRO stage 3"
    )


def _sharded(
    model: Mapping[str, Any], optimizers: Sequence[Mapping[str, Any]], kind: str
) -> dict[str, StoredWeight]:
    if all(_SUB_GROUPS in optimizer for optimizer in optimizers):
        return _stage_3(model, optimizers, kind)
    return _partitions(model, optimizers, kind)


def _groups(optimizer: Mapping[str, Any], kind: str) -> list[Tensor]:
    """Return one rank's flattened groups of a kind."""
    if kind == MASTER:
        return list(optimizer[_PARTITIONS if _PARTITIONS in optimizer else _SUB_GROUPS])
    state = _inner(optimizer)["state"]
    return [state[group][kind] for group in range(len(state))]


def _inner(optimizer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state of the optimizer that DeepSpeed wraps."""
    inner: Mapping[str, Any] = (
        optimizer.get("base_optimizer_state") or (optimizer["optimizer_state_dict"])
    )
    return inner


def _partitions(
    model: Mapping[str, Any], optimizers: Sequence[Mapping[str, Any]], kind: str
) -> dict[str, StoredWeight]:
    """Stages 1 and 2, and BF16_Optimizer: each rank holds an equal share of each group."""
    if any(_PARTITIONS not in optimizer for optimizer in optimizers):
        raise InspectError(
            f"the optimizer's files hold no {_PARTITIONS}; this version reads no other"
        )
    groups = zip(*(_groups(optimizer, kind) for optimizer in optimizers), strict=True)
    paddings = optimizers[0].get("param_alignment_paddings")
    weights: dict[str, StoredWeight] = {}
    for group, (shapes, pieces) in enumerate(zip(model["param_shapes"], groups, strict=True)):
        weights |= unflatten(shapes, pieces, paddings[group] if paddings else ())
    return weights


def _stage_3(
    model: Mapping[str, Any], optimizers: Sequence[Mapping[str, Any]], kind: str
) -> dict[str, StoredWeight]:
    """Each rank holds an equal share of each weight, one after the other."""
    ranks = [_groups(optimizer, kind) for optimizer in optimizers]
    weights = {}
    offset = 0
    for shapes in model["param_shapes"]:
        for name, shape in shapes.items():
            share = math.ceil(shape.numel() / len(ranks))
            weights[name] = StoredWeight(shape, partial(_join, ranks, offset, share, shape.numel()))
            offset += share
    return weights


def _join(ranks: Sequence[Sequence[Tensor]], start: int, share: int, count: int) -> Tensor:
    """Put the ranks' shares of one weight together; only the last is padded."""
    return torch.cat([cut(pieces, start, share) for pieces in ranks])[:count]


def _with_ties(
    weights: Mapping[str, StoredWeight], model: Mapping[str, Any]
) -> dict[str, StoredWeight]:
    """Add the second name of each tied weight."""
    ties = model["shared_params"].items()
    return dict(weights) | {name: weights[stored] for name, stored in ties}


def _check_count(state: Path, optimizers: Sequence[Mapping[str, Any]]) -> None:
    counts = optimizers[0].get("partition_count", len(optimizers)) if optimizers else 0
    expected = max(counts) if isinstance(counts, list) else counts
    if expected != len(optimizers):
        raise InspectError(f"{state} was written by {expected} ranks and holds {len(optimizers)}")


def _bare(name: str) -> str:
    return name.removeprefix("module.").replace("_orig_mod.", "")


def _rank(path: Path) -> int:
    return int(path.name.split("zero_pp_rank_")[1].split("_")[0])
