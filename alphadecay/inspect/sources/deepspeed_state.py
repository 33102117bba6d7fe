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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources.restricted import load_restricted

LoadFile = Callable[[Path], Any]  # reads a file of torch.save, its tensors mapped

_MODEL = "mp_rank_00_model_states.pt"  # ZeRO-3 writes one per rank instead
_PARTITIONS = "single_partition_of_fp32_groups"
_SUB_GROUPS = "fp32_flat_groups"
MASTER = "fp32"
# What a parameter has, by DeepSpeed's names.
KINDS = (MASTER, "exp_avg", "exp_avg_sq")
AVERAGE = "ema"  # of a weight over the steps, where a run keeps it beside the moments


@dataclass(frozen=True)
class StoredWeight:
    """A weight that lies in a checkpoint's files.

    Args:
        shape: its whole shape.
        load: reads it, in whatever dtype it is stored in.
    """

    shape: torch.Size
    load: Callable[[], Tensor]

    def read(self) -> Tensor:
        """Return the float32 weight, [shape]."""
        return self.load().detach().float().view(self.shape)


@dataclass(frozen=True)
class OptimizerState:
    """What the optimizers of ZeRO stage 1 to 3 wrote.

    Args:
        parameters: name in the engine's model, tied ones once -> each of KINDS, and
            the average where there is one.
        step: of every parameter, as the optimizer counts it.
        param_groups: its own.
        others: the rest of what the first rank wrote, by name.
    """

    parameters: dict[str, dict[str, StoredWeight]]
    step: Any
    param_groups: list[dict[str, Any]]
    others: dict[str, Any]


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
    weights = _sharded(model, optimizers, MASTER) if optimizers else _stage_0(model)
    if optimizers:
        weights = _with_ties(weights, model)
    return {_bare(name): weight for name, weight in weights.items()}


def open_optimizer(state: Path, load: LoadFile = _load) -> OptimizerState:
    """Find every weight and its moments in the files of ZeRO stage 1 to 3.

    Args:
        load: reads a file; what it makes of DeepSpeed's own objects stands in `others`.

    Raises:
        InspectError: a layout that this version does not know.
        KeyError: an optimizer without moments.
    """
    model, optimizers = _open(state, load)
    if not optimizers:
        raise InspectError(f"{state} holds no *_optim_states.pt")
    parameters: dict[str, dict[str, StoredWeight]] = {}
    inner = _inner(optimizers[0])
    averaged = AVERAGE in inner["state"][0]
    for kind in (*KINDS, *([AVERAGE] if averaged else [])):
        for name, weight in _sharded(model, optimizers, kind).items():
            parameters.setdefault(name, {})[kind] = weight
    return OptimizerState(
        parameters, inner["state"][0]["step"], list(inner["param_groups"]), dict(optimizers[0])
    )


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


def _stage_0(model: Mapping[str, Any]) -> dict[str, StoredWeight]:
    """In float32 take the model's own weights; in 16 bits the optimizer's copies, in the order of
    the model, tied weights once.
    """
    held = model["module"].items()  # of some layers a state of their own, which is no tensor
    module = {name: weight for name, weight in held if isinstance(weight, Tensor)}
    optimizer = model["optimizer"]
    # DeepSpeed notes neither shapes nor ties at stage 0; a tied weight is stored once all the same
    first: dict[int, str] = {}
    ties = {name: first.setdefault(weight.data_ptr(), name) for name, weight in module.items()}
    shapes = {name: module[name].shape for name, stored in ties.items() if name == stored}
    weights = {name: _of_tensor(module[name]) for name in shapes}
    if "fp32_groups" in optimizer:
        copies = [copy for group in optimizer["fp32_groups"] for copy in group]
        weights = dict(zip(shapes, map(_of_tensor, copies), strict=True))
    elif "fp32_groups_flat" in optimizer:
        weights = _unflatten(shapes, list(optimizer["fp32_groups_flat"]))
    return {name: weights[stored] for name, stored in ties.items()}


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
        weights |= _unflatten(shapes, pieces, paddings[group] if paddings else ())
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


def _unflatten(
    shapes: Mapping[str, torch.Size], pieces: Sequence[Tensor], paddings: Sequence[int] = ()
) -> dict[str, StoredWeight]:
    """Find weights that lie one after the other in one group, each with its padding if any."""
    weights = {}
    offset = 0
    for place, (name, shape) in enumerate(shapes.items()):
        weights[name] = StoredWeight(shape, partial(cut, pieces, offset, shape.numel()))
        offset += shape.numel() + (paddings[place] if paddings else 0)
    return weights


def cut(pieces: Sequence[Tensor], start: int, count: int) -> Tensor:
    """Return `count` elements from `start` on of the pieces, as if they lay end to end.

    Raises:
        InspectError: there are fewer.
    """
    taken = []
    left = count
    for piece in pieces:
        length = min(left, piece.numel() - start)
        if length > 0:
            taken.append(piece.flatten().narrow(0, start, length))
            left -= length
        start = max(0, start - piece.numel())
    if left:
        raise InspectError(f"the checkpoint's files end {left:,} elements before the weight does")
    return torch.cat(taken)


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


def _of_tensor(weight: Tensor) -> StoredWeight:
    return StoredWeight(weight.shape, lambda: weight)


def _bare(name: str) -> str:
    return name.removeprefix("module.").replace("_orig_mod.", "")


def _rank(path: Path) -> int:
    return int(path.name.split("zero_pp_rank_")[1].split("_")[0])
