"""The float32 weights of a checkpoint, whole, in one process: from its files, without ranks and
without an engine.

DeepSpeed's own tool reads what its ZeRO 1, 2 and 3 optimizers wrote. Stage 0 and its BF16_Optimizer
(stage 1 in bf16) it refuses; those two are read here. Its tool unpickles in full: check the
manifest's hashes before.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train.checkpoint.safe_load import safe_load
from train.errors import UserError

_MODEL = "mp_rank_00_model_states.pt"
_PARTITIONS = "single_partition_of_fp32_groups"


def read_masters(state: Path) -> dict[str, Tensor]:
    """Name in the bare model -> float32 weight [its shape], tied names both.

    Args:
        state: the folder that DeepSpeed wrote; its hashes have been checked.

    Raises:
        UserError: a layout that this version does not know.
    """
    # ZeRO-3 writes one per rank instead
    model = safe_load(state / _MODEL, mmap=True) if (state / _MODEL).is_file() else None
    shards = sorted(state.glob("*zero_pp_rank_*_optim_states.pt"), key=_rank)
    if model is not None and not shards:
        weights = _stage_0(model)
    elif (
        model is not None
        and "zero_stage" not in safe_load(shards[0], mmap=True)["optimizer_state_dict"]
    ):
        weights = _partitions(
            model,
            [safe_load(shard, mmap=True)["optimizer_state_dict"][_PARTITIONS] for shard in shards],
        )
    elif shards:
        weights = _by_deepspeed(state)
    else:
        raise UserError(
            f"{state} holds no weights that this version can read: neither {_MODEL} nor "
            "*_optim_states.pt"
        )
    return {
        name.removeprefix("module.").replace("_orig_mod.", ""): weight.detach().float()
        for name, weight in weights.items()
    }


def _by_deepspeed(state: Path) -> dict[str, Tensor]:
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # it narrates
        return dict(get_fp32_state_dict_from_zero_checkpoint(str(state.parent), tag=state.name))


def _stage_0(model: Mapping[str, Any]) -> dict[str, Tensor]:
    """In float32 the model's own weights; in 16 bits the optimizer's copies, in the order of the
    model, tied weights once.
    """
    weights = dict(model["module"])
    optimizer = model["optimizer"]
    # DeepSpeed notes neither shapes nor ties at stage 0; a tied weight is stored once all the same
    first: dict[int, str] = {}
    ties = {name: first.setdefault(weight.data_ptr(), name) for name, weight in weights.items()}
    own = {name: weights[name].shape for name, stored in ties.items() if name == stored}
    if "fp32_groups" in optimizer:
        copies = [copy for group in optimizer["fp32_groups"] for copy in group]
        weights.update(zip(own, copies, strict=True))
    elif "fp32_groups_flat" in optimizer:
        weights.update(_unflatten([own], [torch.cat(list(optimizer["fp32_groups_flat"]))]))
    return {name: weights[stored] for name, stored in ties.items()}


def _partitions(model: Mapping[str, Any], ranks: list[list[Tensor]]) -> dict[str, Tensor]:
    """BF16_Optimizer: each rank holds an equal share of each flattened group, padded at the end."""
    weights = _unflatten(
        model["param_shapes"], [torch.cat(list(parts)) for parts in zip(*ranks, strict=True)]
    )
    # the second name of a tied weight
    return weights | {name: weights[stored] for name, stored in model["shared_params"].items()}


def _unflatten(
    groups: Iterable[Mapping[str, torch.Size]], flats: Iterable[Tensor]
) -> dict[str, Tensor]:
    weights = {}
    for shapes, flat in zip(groups, flats, strict=True):
        offset = 0
        for name, shape in shapes.items():
            weights[name] = flat.narrow(0, offset, shape.numel()).view(shape)
            offset += shape.numel()
    return weights


def _rank(path: Path) -> int:
    return int(path.name.split("zero_pp_rank_")[1].split("_")[0])
