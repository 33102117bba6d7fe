"""Writes small checkpoints in DeepSpeed's layouts, with weights and moments that tell each other
apart.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.unit.train.checkpoint.saving import identity
from train.checkpoint.manifest import FORMAT, MANIFEST, Checkpoint, facts_of_files, read

SHAPES = {"a": torch.Size([3, 2]), "b": torch.Size([5]), "c": torch.Size([2, 2])}
KINDS = {"fp32": 0.0, "exp_avg": 100.0, "exp_avg_sq": 200.0}
STEP = torch.tensor(7.0)
GROUPS = [{"lr": 0.1, "base_weight_decay": 0.5, "params": [0]}]


def expected() -> dict[str, dict[str, Tensor]]:
    """What every layout holds: name -> kind -> the whole tensor."""
    numbers = torch.arange(15.0).split([shape.numel() for shape in SHAPES.values()])
    return {
        name: {kind: more + part.view(shape) for kind, more in KINDS.items()}
        for (name, shape), part in zip(SHAPES.items(), numbers, strict=True)
    }


def _optimizer(flat: dict[str, Tensor], stage: int) -> dict[str, Any]:
    moments = {kind: flat[kind] for kind in ("exp_avg", "exp_avg_sq")}
    inner = {"state": {0: {"step": STEP, **moments}}, "param_groups": GROUPS}
    if stage == 3:
        return {"optimizer_state_dict": inner, "fp32_flat_groups": [flat["fp32"]], "overflow": 0}
    partition = {"single_partition_of_fp32_groups": [flat["fp32"]], "clip_grad": 1.0}
    return {"base_optimizer_state": inner, "overflow": 0, **partition}


def _shares(whole: dict[str, dict[str, Tensor]], kind: str, ranks: int, stage: int) -> list[Tensor]:
    """Return each rank's flat tensor of a kind, padded at the end."""
    tensors = [kinds[kind].flatten() for kinds in whole.values()]
    if stage < 3:
        flat = torch.cat(tensors)
        size = math.ceil(flat.numel() / ranks)
        padded = torch.cat([flat, torch.full((size * ranks - flat.numel(),), math.nan)])
        return list(padded.split(size))
    parts: list[list[Tensor]] = [[] for _ in range(ranks)]
    for tensor in tensors:
        size = math.ceil(tensor.numel() / ranks)
        padded = torch.cat([tensor, torch.full((size * ranks - tensor.numel(),), math.nan)])
        for rank, part in enumerate(padded.split(size)):
            parts[rank].append(part)
    return [torch.cat(part) for part in parts]


def write_checkpoint(folder: Path, stage: int, ranks: int = 2, step: int = 5) -> Checkpoint:
    """Write a complete checkpoint of ZeRO stage 1 to 3, with a weight "d" that is tied to "a"."""
    path = folder / f"step-{step:08d}"
    state = path / "state"
    state.mkdir(parents=True)
    model = {"param_shapes": [SHAPES], "shared_params": {"d": "a"}}
    names = [f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in range(ranks)]
    for name in names if stage == 3 else ["mp_rank_00_model_states.pt"]:
        torch.save({"module": {}, "named": name, **model}, state / name)
    whole = expected()
    shares = {kind: _shares(whole, kind, ranks, stage) for kind in KINDS}
    for rank in range(ranks):
        flat = {kind: parts[rank].clone() for kind, parts in shares.items()}
        name = f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": _optimizer(flat, stage)}, state / name)
    layout = {"zero_stage": stage, "world_size": ranks}
    facts = facts_of_files(path, state.iterdir())
    manifest = {"format": FORMAT, "step": step, "commit": 1, **identity(), **layout}
    (path / MANIFEST).write_text(json.dumps(manifest | {"files": facts}))
    return read(path)
