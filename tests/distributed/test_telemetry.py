"""Telemetry on several ranks: what rank 0 cannot open stops all of them."""

from __future__ import annotations

from pathlib import Path

import torch

from alphadecay import AdamW
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.engines import PlainEngine
from train.cluster.distributed import World
from train.config import LogConfig, ModelConfig, TrainConfig
from train.errors import UserError
from train.telemetry.telemetry import Telemetry

RANKS = 2
CONFIG = TrainConfig(model=ModelConfig(num_layers=1), log=LogConfig(progress="off"))


def opened(rank: int, folder: Path) -> str:
    init_deepspeed()
    module = torch.nn.Linear(4, 3)
    engine = PlainEngine(module, AdamW(module.parameters()))
    try:
        Telemetry(
            CONFIG, folder, World(rank, rank, RANKS, torch.device("cpu")), engine, resume_step=2
        )
    except UserError as error:
        return str(error)
    return ""


def test_a_damaged_file_stops_every_rank(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"kind": "train", "step": 1}\n{"kind": "tra\n{"kind": "train", "step": 3}\n')
    assert (
        run_ranks(RANKS, opened, tmp_path)
        == [f"{file}, line 2: not valid JSON (Unterminated string starting at); delete that line"]
        * RANKS
    )
