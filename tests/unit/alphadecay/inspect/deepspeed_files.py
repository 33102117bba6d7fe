"""DeepSpeed's files of ZeRO stage 1, written without deepspeed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

WEIGHTS = {
    "layers.0.q_proj.weight": torch.arange(12.0).view(3, 4),
    "layers.0.up_proj.weight": torch.arange(20.0).view(5, 4),
}


def write_zero1(folder: Path, ranks: int, weights: Mapping[str, torch.Tensor] = WEIGHTS) -> None:
    """Write one group of the weights, in equal shares of the ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {name: weight.shape for name, weight in weights.items()}
    model = {"module": {}, "param_shapes": [shapes], "shared_params": {}}
    torch.save(model, folder / "mp_rank_00_model_states.pt")
    flat = torch.cat([weight.flatten() for weight in weights.values()])
    for rank, share in enumerate(flat.chunk(ranks)):
        state = {"single_partition_of_fp32_groups": [share.clone()], "partition_count": [ranks]}
        torch.save(
            {"optimizer_state_dict": state},
            folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt",
        )
